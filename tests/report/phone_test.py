"""The page on a phone: 390 pixels wide, and nothing is cut."""

import shutil

import pytest

from tests.report import example

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
# What sticks out of the window, and where a chart's or a table's end cannot be seen.
CUT = """
const wide = innerWidth, found = [];
if (document.documentElement.scrollWidth > wide) found.push("the page");
for (const each of document.querySelectorAll("svg, table, td, h1, h2, h3, p, dd")) {
  const box = each.getBoundingClientRect();
  if (box.width && (box.right > wide + 0.5 || box.left < -0.5))
    found.push(each.tagName + ": " + each.textContent.trim().slice(0, 60));
}
return found;
"""


@pytest.fixture(scope="module")
def browser():
  webdriver = pytest.importorskip("selenium.webdriver")
  if CHROMIUM is None or shutil.which("chromedriver") is None:
    pytest.skip("no Chromium with its chromedriver is installed")
  options = webdriver.ChromeOptions()
  options.binary_location = CHROMIUM
  for option in ("--headless=new", "--no-sandbox", "--hide-scrollbars"):
    options.add_argument(option)
  options.add_experimental_option(
    "mobileEmulation",
    {"deviceMetrics": {"width": 390, "height": 844, "pixelRatio": 2.0}},
  )
  service = webdriver.ChromeService(shutil.which("chromedriver"))
  opened = webdriver.Chrome(options=options, service=service)
  yield opened
  opened.quit()


@pytest.mark.slow
def test_nothing_of_a_page_is_cut_on_a_phone(tmp_path, browser):
  runs = []
  for name in ("a_run_with_a_rather_long_name", "shared", "whole"):
    example.write_run(tmp_path / name, [{"step": 7, "loss": 0.5}])
    found = example.answers({f"t{i}": "rrrw" for i in range(12)})
    example.write_result(tmp_path / name / "inference_eval", "held_out", found)
    runs.append(tmp_path / name)
  example.make_page(tmp_path, *runs)
  browser.get(f"file://{tmp_path}/page.html")
  assert browser.execute_script("return innerWidth") == 390
  browser.execute_script(
    "document.querySelectorAll('details').forEach(x => x.open = true)"
  )
  tables = browser.execute_script(
    "return document.querySelectorAll('table').length"
  )
  assert tables > 4
  assert browser.execute_script(CUT) == []
