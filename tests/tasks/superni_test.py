import json
import logging

import pytest

from hyperjax.data.store.seqio_store import SeqioTasks
from hyperjax.tasks import records, superni
from hyperjax.tasks.superni import SuperNaturalInstructions

pytestmark = pytest.mark.seqio


def _task(instances, positive=None, **fields):
  if positive is None:
    positive = [{"input": "p", "output": "q", "explanation": ""}] * 2
  content = {
    "Categories": ["Kind"],
    "Definition": ["Do it."],
    "Positive Examples": positive,
    "Instances": instances,
    "URL": [float("nan")],  # as in 96 real files
  }
  return {k: v for k, v in (content | fields).items() if v is not None}


def _instance(number, output=("yes",)):
  return {"id": f"i{number}", "input": f"in {number}", "output": list(output)}


def _folder(root, tasks, train=("train-a",), test=("test_b",)):
  """A data set in the authors' layout, in the words of the records family."""
  folder = root / "sni"
  (folder / "tasks").mkdir(parents=True)
  (folder / "splits" / "default").mkdir(parents=True)
  for name, content in tasks.items():
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "tasks" / f"{name}.json").write_text(text)
  for split, names in (("train", train), ("test", test)):
    path = folder / "splits" / "default" / f"{split}_tasks.txt"
    path.write_text("\n".join(names))
  return SuperNaturalInstructions(
    str(root), vocabulary=str(records.VOCABULARY), extra_ids=0
  )


def _rows(provider, name, split, root):
  tasks = SeqioTasks(
    name, split, (provider,), str(root / "cache"), keep_records=True
  )
  (task,) = tasks.open()
  return [task.rows.record(i) for i in range(len(task.rows))]


def test_instances_and_positive_examples_are_the_splits(tmp_path):
  instances = [
    _instance(0, ("yes", "yes indeed")),
    _instance(1, (" padded \n",)),
    {"id": "i2", "input": "plain output", "output": "as a string"},
  ]
  positive = [{"input": "red", "output": "blue", "explanation": "why"}]
  provider = _folder(
    tmp_path,
    {"train-a": _task(instances, positive), "test_b": _task(instances)},
  )
  train = _rows(provider, "sni_train_a", "train", tmp_path)
  assert [row["references"] for row in train] == [
    ["yes", "yes indeed"],
    [" padded \n"],
    ["as a string"],
  ]
  assert [row["targets_pretokenized"] for row in train] == [
    "yes",
    "padded",
    "as a string",
  ]
  assert train[0]["category"] == "Kind" and train[0]["id"] == "i0"
  shown = _rows(provider, "sni_train_a", "positive", tmp_path)
  assert [
    (r["inputs_pretokenized"], r["targets_pretokenized"]) for r in shown
  ] == [("red", "blue")]


def test_only_the_first_hundred_instances_of_a_test_task_are_scored(tmp_path):
  many = [_instance(i) for i in range(120)]
  provider = _folder(tmp_path, {"train-a": _task(many), "test_b": _task(many)})
  test = _rows(provider, "sni_test_b", "test", tmp_path)
  assert [row["id"] for row in test] == [f"i{i}" for i in range(100)]
  assert len(_rows(provider, "sni_train_a", "train", tmp_path)) == 120


def test_blank_outputs_are_left_out_of_training_and_counted(tmp_path, caplog):
  instances = [_instance(0), _instance(1, (" ",)), _instance(2), _instance(3)]
  provider = _folder(
    tmp_path, {"train-a": _task(instances), "test_b": _task(instances)}
  )
  with caplog.at_level(logging.WARNING):
    train = _rows(provider, "sni_train_a", "train", tmp_path)
  assert [row["id"] for row in train] == ["i0", "i2", "i3"]
  assert "1 of 4 instances have a blank output" in caplog.text
  test = _rows(provider, "sni_test_b", "test", tmp_path)
  assert len(test) == 4


@pytest.mark.parametrize(
  "content, message",
  [
    (_task([]), r"train-a\.json: 'Instances' has no entry"),
    (_task(None), r"train-a\.json has no 'Instances'"),
    ("{not json", r"train-a\.json: not JSON"),
    (_task([{"id": "x", "input": "y"}]), r"Instances 0 has no 'output'"),
    (_task([{"input": "y", "output": [3]}]), r"'output' must be a string"),
    (_task([{"input": 3, "output": ["y"]}]), r"'input' must be a string"),
  ],
)
def test_a_broken_task_is_refused_by_file_and_field(tmp_path, content, message):
  provider = _folder(
    tmp_path, {"train-a": content, "test_b": _task([_instance(0)])}
  )
  with pytest.raises(ValueError, match=message):
    _rows(provider, "sni_train_a", "train", tmp_path)


def test_an_sni_task_with_one_row_makes_no_episodes(tmp_path):
  from hyperjax.data import sources

  one = _task([_instance(0)])
  provider = _folder(tmp_path, {"train-a": one, "test_b": one})
  data = sources.FewShotEpisodes(
    SeqioTasks("sni_train", "train", (provider,), str(tmp_path / "cache")),
    {"demonstrations": 32, "inputs": 8, "targets": 8},
  )
  with pytest.raises(ValueError, match=r"'sni_train_a'.*has 1 rows.*needs 2"):
    data.open(0)


def test_missing_folders_lists_and_files_are_refused(tmp_path):
  with pytest.raises(ValueError, match=r"DATA_DIR: there is no folder .*sni"):
    SuperNaturalInstructions(str(tmp_path)).register()
  task = _task([_instance(0)])
  provider = _folder(tmp_path, {"train-a": task}, test=("gone_1", "gone_2"))
  with pytest.raises(ValueError, match=r"names 2 tasks without a file.*gone_1"):
    provider.register()


def test_missing_files_may_be_left_out_on_request(tmp_path, caplog):
  import dataclasses

  import seqio

  task = _task([_instance(0)])
  provider = _folder(
    tmp_path, {"train-a": task, "test_b": task}, test=("test_b", "gone")
  )
  with caplog.at_level(logging.WARNING):
    dataclasses.replace(provider, skip_missing=True).register()
  assert "1 of 2 tasks have no file" in caplog.text
  names = [t.name for t in seqio.get_mixture_or_task("sni_test").tasks]
  assert names == ["sni_test_b"]


def test_a_task_in_both_lists_is_refused(tmp_path):
  task = _task([_instance(0)])
  provider = _folder(
    tmp_path, {"train-a": task, "test_b": task}, train=("train-a", "test_b")
  )
  with pytest.raises(
    ValueError, match=r"test_b .*in the train and in the test"
  ):
    provider.register()


def test_names_that_seqio_cannot_tell_apart_are_refused(tmp_path):
  task = _task([_instance(0)])
  provider = _folder(
    tmp_path, {"a-b": task, "a_b": task}, train=("a-b", "a_b"), test=()
  )
  with pytest.raises(ValueError, match="'sni_a_b'"):
    provider.register()


def test_inputs_of_training_tasks_are_text_without_answers(tmp_path):
  instances = [
    {"id": "0", "input": " red blue", "output": ["green"]},
    {"id": "1", "input": "rome", "output": [" "]},  # nothing to learn
    {"id": "2", "input": "oslo", "output": ["paris"]},
  ]
  held_out = _task([{"id": "0", "input": "cairo", "output": ["cairo"]}])
  data_set = _folder(
    tmp_path,
    {
      "train-a": _task(instances, [{"input": "tokyo", "output": "delhi"}]),
      "train_b": _task([_instance(7)]),
      "test_b": held_out,
    },
    train=("train-a", "train_b"),
  )
  provider = superni.TrainingInputs(data_set)
  tasks = SeqioTasks("sni_inputs", "train", (provider,), str(tmp_path / "c"))
  (task,) = tasks.open()
  words = [
    task.vocabulary.decode(task.rows.row(i, "targets").tolist())
    for i in range(len(task.rows))
  ]
  encoded = [
    task.vocabulary.decode(task.vocabulary.encode(text))
    for text in ("red blue\noslo", "in 7")
  ]
  assert words == encoded


@pytest.mark.parametrize(
  ("given", "words"),
  [
    (["Name the colour.", "A second one."], "Name the colour."),
    (" As a string.\n", "As a string."),
    ([], None),
    (None, None),
  ],
)
def test_the_definition_is_a_tasks_instruction(tmp_path, given, words):
  content = _task([_instance(0), _instance(1)], Definition=given)
  provider = _folder(tmp_path, {"train-a": content, "test_b": content})
  opened = SeqioTasks(
    "sni_train", "train", (provider,), str(tmp_path / "cache")
  ).open()
  cached = SeqioTasks(
    "sni_train", "train", (provider,), str(tmp_path / "cache"), use_cached=True
  ).open()
  for (task,) in (opened, cached):
    if words is None:
      assert task.instruction is None
    else:
      expected = task.vocabulary.encode(words)
      assert len(expected) > 0 and task.instruction.tolist() == expected


def test_a_definition_that_is_no_text_is_refused_by_file(tmp_path):
  content = _task([_instance(0)], Definition=[{"text": "x"}])
  provider = _folder(tmp_path, {"train-a": content, "test_b": content})
  with pytest.raises(ValueError, match=r"train-a\.json: 'Definition' must be"):
    _rows(provider, "sni_train", "train", tmp_path)
