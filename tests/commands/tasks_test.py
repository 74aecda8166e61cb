"""What is registered, as `hyperjax tasks` lists it."""

import json

import gin
import pytest

from hyperjax import main
from hyperjax.commands.tasks import ListTasks
from hyperjax.data.store import seqio_store
from hyperjax.tasks import records

pytestmark = [pytest.mark.seqio, pytest.mark.usefixtures("no_configuration")]

seqio = pytest.importorskip("seqio")

from hyperjax.commands import tasks  # noqa: E402
from hyperjax.data.store import seqio_tasks  # noqa: E402

FEATURE = seqio_tasks.text_feature(str(records.VOCABULARY), extra_ids=0)
PAIR = {"inputs": FEATURE, "targets": FEATURE}

OWN_MODULE = """
import seqio
from hyperjax.data.store import seqio_tasks
from hyperjax.tasks import records

FEATURE = seqio_tasks.text_feature(str(records.VOCABULARY), extra_ids=0)
WORDS = records.VALUES["name"]

def rows(split):
  return [{"inputs": f"{word} one", "targets": word} for word in WORDS]

seqio_tasks.add_task(
  "own_names",
  seqio_tasks.RowsSource(
    rows, ("train",), {"inputs": 0, "targets": 0}, made_of=lambda split: 1
  ),
  {"inputs": FEATURE, "targets": FEATURE},
  "own",
)
seqio_tasks.add_mixture("own_mix", ["own_names"], "own")
"""


@pytest.fixture(autouse=True)
def _three_tasks():
  """Of two, three and four rows; the last has a second split."""
  for count in (2, 3, 4):
    splits = ("train", "extra") if count == 4 else ("train",)
    source = seqio_tasks.RowsSource(
      lambda split, count=count: (
        [{"inputs": "alice paris", "targets": "red"}] * count
      ),
      splits,
      dict.fromkeys(PAIR, 0),
      made_of=lambda split, count=count: count,
    )
    seqio_tasks.add_task(f"listed_{count}", source, PAIR, "test")
  seqio.MixtureRegistry.add(
    "listed_mix", [("listed_2", 1.0), ("listed_3", 2.0), ("listed_4", 5.0)]
  )


def _tasks(tmp_path, name="listed_mix", **options):
  return seqio_store.SeqioTasks(name, cache_dir=str(tmp_path), **options)


def _lines(capsys, task_set, **options):
  ListTasks([task_set], **options).execute()
  return capsys.readouterr().out.splitlines()


def test_splits_and_rates_of_mixtures_and_tasks_are_listed(capsys, tmp_path):
  assert _lines(capsys, _tasks(tmp_path), filter="LISTED") == [
    "mixture     tasks  splits                       rates",
    "listed_mix      3  train, extra (1 of 3 tasks)  1 to 5, most listed_4 "
    "(62.5%)",
    "",
    "task      splits",
    "listed_2  train",
    "listed_3  train",
    "listed_4  train, extra",
    "",
    "1 mixture, 3 tasks",
  ]
  assert _lines(capsys, _tasks(tmp_path), filter="listed", split="extra") == [
    "mixture     tasks  splits                       rates",
    "listed_mix      3  train, extra (1 of 3 tasks)  1 to 5, most listed_4 "
    "(62.5%)",
    "",
    "task      splits",
    "listed_4  train, extra",
    "",
    "1 mixture, 1 task",
  ]


def test_counts_are_of_what_is_stored_and_store_nothing(capsys, tmp_path):
  """A row is 3 tokens and 2, ends included."""
  listed = {"filter": "listed", "split": "train", "counts": True}
  lines = _lines(capsys, _tasks(tmp_path), **listed)
  assert lines[4:7] == [
    f"listed_{count}  train                not stored" for count in (2, 3, 4)
  ]
  assert not list(tmp_path.iterdir())

  _tasks(tmp_path, "listed_3").open()
  _tasks(tmp_path, "listed_4", keep_records=True).open()
  lines = _lines(capsys, _tasks(tmp_path), **listed)
  assert lines[:2] == [
    "mixture     tasks  split  rows  tokens                       rates",
    "listed_mix      3  train     7      35  2 of 3 tasks stored  1 to 5, "
    "most listed_4 (62.5%)",
  ]
  assert lines[4:7] == [
    "listed_2  train                not stored",
    "listed_3  train     3      15",
    "listed_4  train     4      20",
  ]


def test_a_rate_that_cannot_be_computed_is_told_and_the_rest_listed(
  capsys, tmp_path
):
  def broken(task):
    raise KeyError(task.name)

  seqio.MixtureRegistry.add("listed_odd", [("listed_2", broken)])
  lines = _lines(capsys, _tasks(tmp_path), filter="listed_")
  assert "cannot be told: KeyError: 'listed_2'" in lines[2]
  assert lines[-1] == "2 mixtures, 3 tasks"


def test_the_nearest_names_are_those_with_a_part_that_is_alike():
  names = ["sni_task1344_glue_entailment", "sni_task288_gigaword", "records"]
  assert tasks.nearest("tsk288", names, 1) == ["sni_task288_gigaword"]
  assert tasks.nearest("glue_entialment", names) == [names[0]]
  assert tasks.nearest("Recrods", names) == ["records"]
  assert tasks.nearest("xyz", names) == []


def test_what_no_name_or_split_matches_is_refused_with_what_is_near(capsys):
  def refusal(*arguments):
    gin.clear_config(clear_constants=True)
    assert main.main(["tasks", *arguments]) == 1
    shown = capsys.readouterr()
    assert not shown.out and len(shown.err.splitlines()) == 1
    return shown.err

  assert "nearest: listed_mix" in refusal("--filter=lisetd_mix")
  assert "--split=trian" in refusal("--filter=listed", "--split=trian")
  assert "their splits are extra, train" in refusal(
    "--filter=listed", "--split=trian"
  )


def test_without_a_gin_file_the_records_family_is_listed(capsys):
  assert main.main(["tasks", "--filter=records_unseen"]) == 0
  assert capsys.readouterr().out.splitlines() == [
    "mixture         tasks  splits             rates",
    "records_unseen    128  train, validation  equal",
    "",
    "1 mixture, 0 tasks",
  ]


def test_a_runs_own_gin_files_say_what_is_registered(capsys):
  """Neither where its results go nor its adapters are needed."""
  arguments = ["tasks", "--gin_file=runs/demo_eval.gin", "--filter=_seen"]
  assert main.main(arguments) == 0
  assert "records_seen    128" in capsys.readouterr().out


def test_data_that_is_missing_is_told_in_its_line(capsys, tmp_path):
  folder = tmp_path / "text"
  folder.mkdir()
  (folder / "a_train.json").write_text(json.dumps({"text": "red"}) + "\n")
  arguments = [
    "tasks",
    "--gin_file=tasks/text.gin",
    f"--gin.DATA_DIR={tmp_path}",
    f"--gin.CACHE_DIR={tmp_path / 'tokens'}",
    "--gin.c4.JsonLinesText.name=listed_text",
    f"--gin.c4.JsonLinesText.vocabulary={records.VOCABULARY}",
    "--filter=listed_text",
    "--counts",
  ]
  assert main.main(arguments) == 0
  lines = capsys.readouterr().out.splitlines()
  assert lines[1].split() == ["listed_text", "train", "not", "stored"]
  assert "cannot be told: " in lines[2] and str(folder) in lines[2]


def test_a_module_of_the_users_own_is_listed_and_inspected(
  capsys, monkeypatch, tmp_path
):
  (tmp_path / "own_tasks_to_list.py").write_text(OWN_MODULE)
  monkeypatch.syspath_prepend(str(tmp_path))
  monkeypatch.setenv("HYPERJAX_CACHE", str(tmp_path / "tokens"))
  config = tmp_path / "own.gin"
  config.write_text(
    "from __gin__ import dynamic_registration\nimport own_tasks_to_list\n"
  )
  arguments = [f"--gin_file={config}"]
  assert main.main(["tasks", *arguments, "--filter=own_"]) == 0
  assert capsys.readouterr().out.splitlines() == [
    "mixture  tasks  splits  rates",
    "own_mix      1  train   equal",
    "",
    "task       splits",
    "own_names  train",
    "",
    "1 mixture, 1 task",
  ]
  gin.clear_config(clear_constants=True)
  arguments += ["own_mix", "--num=1", "--num_demonstrations=3"]
  assert main.main(["inspect", *arguments]) == 0
  lines = capsys.readouterr().out.splitlines()
  assert lines[0] == "context 0: own_names, split train"
  assert (
    lines[1] == "  demonstrations: 15 tokens of at most 1,024, 3 of 3 drawn"
  )
  for line in lines[2:5]:
    row, given, answer = line.replace(":", " ->").split(" -> ")
    name = records.VALUES["name"][int(row.split()[1])]
    assert (given, answer) == (f"{name} one", name)
  assert "\033" not in "".join(lines)
