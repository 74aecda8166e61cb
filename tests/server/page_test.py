"""The page, in a browser: what it shows, by keyboard and on a phone."""

import os
import shutil
import threading

import pytest
import uvicorn

from hyperjax.server import app
from tests import served_example

pytestmark = pytest.mark.slow

PAIRS = served_example.pairs(served_example.RULES[0])
ASKED = served_example.questions()[:2]
WIDTHS = {"phone": 390, "desk": 1200}


@pytest.fixture(scope="module")
def address(client, service):
  """The service of the other tests, at a port."""
  config = uvicorn.Config(
    app.make(service), port=0, log_level="warning", lifespan="off"
  )
  server = uvicorn.Server(config)
  thread = threading.Thread(target=server.run)
  thread.start()
  while not server.started:
    thread.join(0.05)
  [listening] = server.servers
  yield f"http://localhost:{listening.sockets[0].getsockname()[1]}"
  server.should_exit = True
  thread.join()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
  webdriver = pytest.importorskip("selenium.webdriver")
  programs = [shutil.which(x) for x in ("chromium", "chromedriver")]
  if None in programs:
    pytest.skip("chromium and chromedriver are not installed")
  options = webdriver.ChromeOptions()
  options.binary_location = programs[0]
  # No sandbox: containers forbid what it needs.
  for flag in ("headless=new", "no-sandbox", "disable-dev-shm-usage"):
    options.add_argument(f"--{flag}")
  options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('browser')}")
  options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
  service = webdriver.ChromeService(programs[1])
  driver = webdriver.Chrome(options=options, service=service)
  driver.set_script_timeout(60)
  yield driver
  driver.quit()


@pytest.fixture(params=WIDTHS)
def page(request, browser, address):
  """The page at a width; a screenshot of it is kept where one is asked for."""
  browser.execute_cdp_cmd(
    "Emulation.setDeviceMetricsOverride",
    {
      "width": WIDTHS[request.param],
      "height": 844,
      "deviceScaleFactor": 1,
      "mobile": request.param == "phone",
    },
  )
  browser.get(address)
  yield browser
  if folder := os.environ.get("HYPERJAX_SCREENSHOTS"):
    height = browser.execute_script("return document.body.scrollHeight")
    browser.execute_cdp_cmd(
      "Emulation.setDeviceMetricsOverride",
      {
        "width": WIDTHS[request.param],
        "height": height + 40,
        "deviceScaleFactor": 1,
        "mobile": request.param == "phone",
      },
    )
    browser.save_screenshot(f"{folder}/{request.node.name}.png")


def wait(page, condition):
  from selenium.webdriver.support.ui import WebDriverWait

  return WebDriverWait(page, 60).until(condition)


def at(page, name):
  return page.find_element("id", name)


def cells(page, table):
  """Text of each row of a table."""
  return page.execute_script(
    "return [...document.querySelectorAll(arguments[0] + ' tbody tr')].map("
    "row => [...row.cells].map(cell => cell.textContent))",
    f"#{table}",
  )


def press(page, *keys):
  from selenium.webdriver import ActionChains

  ActionChains(page).send_keys(*keys).perform()


def submit(page):
  from selenium.webdriver import ActionChains, Keys

  chain = ActionChains(page).key_down(Keys.CONTROL).send_keys(Keys.ENTER)
  chain.key_up(Keys.CONTROL).perform()


def cut_off(page):
  """What is visible and reaches beyond the window, or whose text is cut."""
  return page.execute_script("""
    const width = document.documentElement.clientWidth;
    return [...document.querySelectorAll("body *")]
      .filter((x) => x.checkVisibility() && !x.closest("thead"))
      .filter((x) => {
        const box = x.getBoundingClientRect();
        const isCut = x.scrollWidth > x.clientWidth + 1 && x.clientWidth > 0
          && getComputedStyle(x).display !== "inline"
          && !["TEXTAREA", "INPUT"].includes(x.tagName);
        return box.right > width + 1 || box.left < -1 || isCut;
      })
      .map((x) => x.outerHTML.slice(0, 120));
  """)


def test_from_examples_to_a_kept_adapter_by_keyboard_alone(
  page, service, client
):
  """Every step of the page, its answers the model's, nothing of it cut off."""
  from selenium.webdriver import Keys

  name = f"by-page-{page.execute_script('return innerWidth')}"
  press(page, Keys.TAB)
  assert page.switch_to.active_element.get_attribute("id") == "examples"
  lines = "\n".join(f"{x},{y}" for x, y in PAIRS)
  press(page, f"Input,Output\n{lines}")
  submit(page)
  wait(page, lambda _: at(page, "verdict").text)
  adapter = service.model.adapt(PAIRS)
  assert f"of {len(PAIRS)} held-out examples" in at(page, "verdict").text
  assert [row[:2] for row in cells(page, "check-table")] == [
    list(pair) for pair in PAIRS
  ]
  at(page, "inputs").send_keys("\n".join(ASKED))
  submit(page)
  wait(page, lambda _: cells(page, "answers"))
  found = cells(page, "answers")
  assert [row[0] for row in found] == ASKED
  assert [row[1] for row in found] == service.model.predict(ASKED, adapter)
  assert [row[2] for row in found] == service.model.predict(ASKED)
  assert len({tuple(row[i] for row in found) for i in (1, 2, 3)}) == 3
  at(page, "name").send_keys(name, Keys.ENTER)
  wait(page, lambda _: at(page, "kept").text)
  assert client.get(f"/v1/models/{name}").json()["id"] == name
  assert cut_off(page) == []
  assert client.delete(f"/v1/adapters/{name}").status_code == 200
  told = [x for x in page.get_log("browser") if x["level"] == "SEVERE"]
  assert told == []


@pytest.mark.parametrize(
  ("given", "sentence"),
  [
    ("", "Give a few examples first."),
    ("one,two,three", "Example 1 has 3 columns"),
    ('{"input": ', "This is no JSON"),
    ('{"input": "x"}', "There is no output among the columns input"),
    ('[["x", 3]]', "examples[0] must"),
    ("only an input,", "output that is not blank"),
  ],
)
def test_what_is_wrong_with_examples_is_said_beside_them(page, given, sentence):
  at(page, "examples").send_keys(given)
  submit(page) if given else at(page, "write").click()
  wait(page, lambda _: at(page, "examples-error").text)
  assert sentence in at(page, "examples-error").text
  assert not at(page, "check").is_displayed()
  assert cut_off(page) == []


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16-le"])
@pytest.mark.parametrize("good_encoding", ["utf-8", "utf-16"])
def test_a_file_that_is_neither_utf_8_nor_marked_is_refused(
  browser, address, tmp_path, encoding, good_encoding
):
  browser.get(address)
  good, bad = tmp_path / "good.csv", tmp_path / "bad.csv"
  good.write_text("grün,1", good_encoding)
  bad.write_text("grün,1", encoding)
  at(browser, "file").send_keys(str(bad))
  wait(browser, lambda _: at(browser, "examples-error").text)
  assert "bad.csv is not UTF-8" in at(browser, "examples-error").text
  assert not at(browser, "examples").get_attribute("value")
  at(browser, "file").send_keys(str(good))
  wait(browser, lambda _: at(browser, "examples").get_attribute("value"))
  assert at(browser, "examples").get_attribute("value") == "grün,1"
  assert not at(browser, "examples-error").text
