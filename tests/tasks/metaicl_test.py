import dataclasses
import json
import logging

import pytest

from hyperjax.data.store.seqio_store import SeqioTasks
from hyperjax.tasks.metaicl import MetaICL
from tests.tasks import metaicl_folder

pytestmark = pytest.mark.seqio

CHOICE = {"task_type": "multi-choice", "options": None}
FREE = {"task_type": "free-form", "options": None}


def _splits(name):
  import seqio

  return list(seqio.TaskRegistry.get(name).splits)


def test_a_setting_is_three_mixtures_with_splits_by_role(tmp_path):
  provider = metaicl_folder.write(
    tmp_path, ("seen-a", "seen_c"), ("held_b", "held_d"), ("held_d",)
  )
  provider.register()
  assert metaicl_folder.tasks_of("metaicl_own_train") == [
    "metaicl_seen_a",
    "metaicl_seen_c",
  ]
  assert metaicl_folder.tasks_of("metaicl_own_test") == [
    "metaicl_held_b",
    "metaicl_held_d",
  ]
  assert metaicl_folder.tasks_of("metaicl_own_unseen_domain_test") == [
    "metaicl_held_d"
  ]
  assert _splits("metaicl_seen_a") == ["train"]
  assert set(_splits("metaicl_held_b")) == {
    "train_100",
    "train_13",
    "dev_100",
    "dev_13",
    "test_100",
    "test_13",
  }


def test_tasks_of_a_mixture_are_equally_frequent(tmp_path):
  few = [metaicl_folder.line("few", i) for i in range(2)]
  provider = metaicl_folder.write(
    tmp_path, ("few", "many"), lines={"few_16384_100_train": few}
  )
  tasks = SeqioTasks(
    "metaicl_own_train", "train", (provider,), str(tmp_path / "cache")
  ).open()
  assert [(len(t.rows), t.rate) for t in tasks] == [(2, 1.0), (5, 1.0)]


def test_a_row_keeps_the_texts_as_metaicl_has_them(tmp_path):
  line = metaicl_folder.line("held_b", 0) | {"input": " one [SEP] two "}
  provider = metaicl_folder.write(tmp_path, lines={"held_b_16_13_test": [line]})
  (row,) = metaicl_folder.rows(provider, "metaicl_held_b", "test_13", tmp_path)
  assert row == {
    "inputs_pretokenized": " one [SEP] two ",
    "targets_pretokenized": "good",
    "references": ["good"],
    "choices": ["bad", "good"],
    "task_type": "classification",
    "id": "held_b_16_13_test.jsonl:1",
  }


def test_each_split_reads_its_own_file(tmp_path):
  provider = metaicl_folder.write(tmp_path)
  for split, count in (
    ("train", metaicl_folder.SHOTS),
    ("dev", 2),
    ("test", metaicl_folder.TESTS),
  ):
    for seed in (100, 13):
      rows = metaicl_folder.rows(
        provider, "metaicl_held_b", f"{split}_{seed}", tmp_path
      )
      assert [row["inputs_pretokenized"] for row in rows] == [
        f"in {split} {seed} {i} [SEP] rest" for i in range(count)
      ]


def test_choices_of_a_multi_choice_task_are_those_of_the_line(tmp_path):
  lines = [
    metaicl_folder.line("held_b", 0, "x", ("x", "y")),
    metaicl_folder.line("held_b", 1, "q", ("p", "q", "r")),
    metaicl_folder.line(
      "held_b", 2, "two", ("water", "two", "water")
    ),  # as codah has
  ]
  provider = metaicl_folder.write(
    tmp_path, configs={"held_b": CHOICE}, lines={"held_b_16_100_test": lines}
  )
  rows = metaicl_folder.rows(provider, "metaicl_held_b", "test_100", tmp_path)
  assert [row["choices"] for row in rows] == [
    ["x", "y"],
    ["p", "q", "r"],
    ["water", "two", "water"],
  ]
  assert {row["task_type"] for row in rows} == {"multi-choice"}


def test_free_form_outputs_may_have_alternatives(tmp_path):
  """A list is what scoring accepts; of tabs, preprocessing takes the first."""
  lines = [
    metaicl_folder.line("seen-a", 0, "one", ()),
    metaicl_folder.line("seen-a", 1, ["one", "two"], ()),
    metaicl_folder.line("seen-a", 2, "one\ttwo", ()),
  ]
  provider = metaicl_folder.write(
    tmp_path, configs={"seen-a": FREE}, lines={"seen-a_16384_100_train": lines}
  )
  rows = metaicl_folder.rows(provider, "metaicl_seen_a", "train", tmp_path)
  assert [row["references"] for row in rows] == [
    ["one"],
    ["one", "two"],
    ["one"],
  ]
  assert [row["targets_pretokenized"] for row in rows] == ["one"] * 3
  assert [row["choices"] for row in rows] == [[]] * 3


def test_rows_are_the_same_through_tf_data(tmp_path):
  """An empty list of choices is one of strings there too."""
  import seqio

  lines = [metaicl_folder.line("seen-a", 0, "one", ())]
  metaicl_folder.write(
    tmp_path, configs={"seen-a": FREE}, lines={"seen-a_16384_100_train": lines}
  ).register()
  dataset = seqio.TaskRegistry.get("metaicl_seen_a").source.get_dataset("train")
  (row,) = dataset.as_numpy_iterator()
  assert row["targets"] == b"one" and row["references"].tolist() == [b"one"]
  assert row["choices"].tolist() == []


def test_training_lines_that_teach_wrong_are_left_out_and_counted(
  tmp_path, caplog
):
  lines = [
    metaicl_folder.line("seen-a", 0, "x", ("x", "y")),
    metaicl_folder.line("seen-a", 1, " "),
    metaicl_folder.line("seen-a", 2, "z", ("x", "y")),
    metaicl_folder.line("seen-a", 3, "", ()),
    metaicl_folder.line(
      "seen-a", 4, "z", ()
    ),  # as MetaICL's preprocessing of UnifiedQA
  ]
  provider = metaicl_folder.write(
    tmp_path,
    configs={"seen-a": CHOICE},
    lines={"seen-a_16384_100_train": lines},
  )
  with caplog.at_level(logging.WARNING):
    rows = metaicl_folder.rows(provider, "metaicl_seen_a", "train", tmp_path)
  assert [row["id"].split(":")[1] for row in rows] == ["1", "5"]
  for message in (
    "2 of 5 lines have a blank output and are left out; the first is line 2",
    "1 of 5 lines have an output that is not among the options and are left "
    "out; the first is line 3",
    "1 of 5 lines have fewer than two options and are kept; the first is "
    "line 5",
  ):
    assert message in caplog.text


def test_a_classification_task_may_train_without_options(tmp_path, caplog):
  """As unifiedqa:boolq does, whose config lists "no" and "yes"."""
  lines = [metaicl_folder.line("seen-a", i, "good", ()) for i in range(2)]
  provider = metaicl_folder.write(
    tmp_path, lines={"seen-a_16384_100_train": lines}
  )
  with caplog.at_level(logging.WARNING):
    rows = metaicl_folder.rows(provider, "metaicl_seen_a", "train", tmp_path)
  assert len(rows) == 2
  assert "2 of 2 lines have fewer than two options and are kept" in caplog.text


@pytest.mark.parametrize(
  "config, fields, message",
  [
    (
      metaicl_folder.SENTIMENT,
      {"output": ""},
      r"line 2 has a blank output: output '', ",
    ),
    (
      metaicl_folder.SENTIMENT,
      {"options": ["good", "bad"]},
      r"line 2: 'options' must be those",
    ),
    (
      metaicl_folder.SENTIMENT,
      {"options": ["bad"]},
      r"options' must be those of .*held_b\.json",
    ),
    (
      metaicl_folder.SENTIMENT,
      {"options": []},
      r"line 2 has fewer than two options",
    ),
    (
      metaicl_folder.SENTIMENT,
      {"options": None},
      r"line 2 has no 'options', only task, input",
    ),
    (
      metaicl_folder.SENTIMENT,
      {"output": "so-so"},
      r"line 2 has an output that is not among",
    ),
    (
      metaicl_folder.SENTIMENT,
      {"output": ["good"]},
      r"line 2: 'output' must be a string",
    ),
    (CHOICE, {"options": []}, r"line 2 has fewer than two options"),
    (CHOICE, {"options": ["good"]}, r"line 2 has fewer than two options"),
    (CHOICE, {"output": "x"}, r"output 'x', options \['bad', 'good'\]"),
    (
      CHOICE,
      {"options": "good"},
      r"line 2: 'options' must be a list of string",
    ),
    (CHOICE, {"options": ["good", 3]}, r"line 2: 'options' must be a string"),
    (CHOICE, {"output": None}, r"line 2 has no 'output', only"),
    (CHOICE, {"input": 3}, r"line 2: 'input' must be a string, got 3"),
    (CHOICE, {"task": "other"}, r"'task' must be 'held_b', got 'other'"),
    (FREE, {"options": [], "output": ["  "]}, r"line 2 has a blank output"),
    (FREE, {"options": [], "output": []}, r"line 2: 'output' must be a string"),
    (
      FREE,
      {"options": [], "output": [3]},
      r"line 2: 'output' must be a string",
    ),
  ],
)
@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_a_broken_line_of_a_target_is_refused_by_file_and_line(
  tmp_path, split, config, fields, message
):
  lines = [
    metaicl_folder.line("held_b", i) for i in range(metaicl_folder.SHOTS)
  ]
  changed = lines[1] | fields
  lines[1] = {k: v for k, v in changed.items() if v is not None}
  file = f"held_b_16_13_{split}"
  provider = metaicl_folder.write(
    tmp_path, configs={"held_b": config}, lines={file: lines}
  )
  with pytest.raises(ValueError, match=message) as error:
    metaicl_folder.rows(provider, "metaicl_held_b", f"{split}_13", tmp_path)
  assert f"{file}.jsonl, line 2" in str(error.value)


def test_other_options_than_the_configs_are_refused_in_training_too(tmp_path):
  lines = [
    metaicl_folder.line("seen-a", 0),
    metaicl_folder.line("seen-a", 1, "x", ("x", "y")),
  ]
  provider = metaicl_folder.write(
    tmp_path, lines={"seen-a_16384_100_train": lines}
  )
  with pytest.raises(
    ValueError, match=r"line 2: 'options' .*'good'\], got \['x', 'y'\]"
  ):
    metaicl_folder.rows(provider, "metaicl_seen_a", "train", tmp_path)


@pytest.mark.parametrize("count", [15, 17])
def test_a_target_has_exactly_sixteen_demonstrations(tmp_path, count):
  lines = [metaicl_folder.line("held_b", i) for i in range(count)]
  provider = metaicl_folder.write(tmp_path, lines={"held_b_16_13_train": lines})
  with pytest.raises(
    ValueError, match=rf"held_b_16_13_train\.jsonl has {count} .*exactly 16"
  ):
    metaicl_folder.rows(provider, "metaicl_held_b", "train_13", tmp_path)


def test_a_missing_setting_is_refused_with_those_there_are(tmp_path):
  with pytest.raises(ValueError, match=r"DATA_DIR: there is no .*metaicl"):
    MetaICL(str(tmp_path)).register()
  provider = dataclasses.replace(
    metaicl_folder.write(tmp_path), setting="hr_to_rl"
  )
  with pytest.raises(
    ValueError, match=r"METAICL_SETTING is 'hr_to_rl': .*settings here are: own"
  ):
    provider.register()


@pytest.mark.parametrize(
  "lists, message",
  [
    ({"train": 0}, r"own\.json has no 'train', only test"),
    ({"test": 0}, r"own\.json has no 'test', only train"),
    ({"train": "seen-a"}, r"own\.json: 'train' must be a list of strings"),
    ({"test": ["held_b", 3]}, r"own\.json: 'test' must be a string, got 3"),
    ({"train": ["a", "b", "b"]}, r"own\.json: 'train' names 'b' 2 times"),
    ({"unseen_domain_test": ["x"]}, r"'x' is in 'unseen_domain_test' and not"),
    ({"train": [], "test": []}, r"own\.json: no task of its lists is here"),
  ],
)
def test_a_broken_setting_is_refused_by_file(tmp_path, lists, message):
  provider = metaicl_folder.write(tmp_path)
  path = tmp_path / "metaicl" / "config" / "own.json"
  config = json.loads(path.read_text()) | lists
  path.write_text(json.dumps({k: v for k, v in config.items() if v != 0}))
  with pytest.raises(ValueError, match=message):
    provider.register()


@pytest.mark.parametrize(
  "config, message",
  [
    ({"options": None}, r"held_b\.json has no 'task_type'"),
    (
      {"task_type": "open"},
      r"held_b\.json: 'task_type' must be one of .*'open'",
    ),
    (
      metaicl_folder.SENTIMENT | {"options": None},
      r"'options' must be a list .*got None",
    ),
    (
      metaicl_folder.SENTIMENT | {"options": ["yes"]},
      r"two different texts, got \['yes'\]",
    ),
    (
      metaicl_folder.SENTIMENT | {"options": ["a", "a"]},
      r"two different texts",
    ),
    (
      metaicl_folder.SENTIMENT | {"options": []},
      r"two different texts, got \[\]",
    ),
  ],
)
def test_a_broken_task_config_is_refused_by_file(tmp_path, config, message):
  provider = metaicl_folder.write(tmp_path, configs={"held_b": config})
  with pytest.raises(ValueError, match=message):
    provider.register()


@pytest.mark.parametrize(
  "removed, message",
  [
    (
      {"lines": {"held_b_16_13_test": None}},
      r"own\.json, 'test': 1 of 2 tasks lack files, for instance 'held_b': "
      r"there is no .*held_b_16_13_test\.jsonl. Set metaicl\.MetaICL\.skip",
    ),
    (
      {"lines": {"held_b_16_100_dev": None}},
      r"there is no .*held_b_16_100_dev\.jsonl",
    ),
    (
      {"configs": {"held_b": None}},
      r"there is no .*config/tasks/held_b\.json",
    ),
  ],
)
def test_missing_files_are_refused_or_left_out_on_request(
  tmp_path, caplog, removed, message
):
  provider = metaicl_folder.write(
    tmp_path, test=("held_b", "held_d"), unseen=("held_b",), **removed
  )
  with pytest.raises(ValueError, match=message):
    provider.register()
  with caplog.at_level(logging.WARNING):
    dataclasses.replace(provider, skip_missing=True).register()
  assert "own.json, 'test': 1 of 2 tasks lack files" in caplog.text
  assert metaicl_folder.tasks_of("metaicl_own_test") == ["metaicl_held_d"]


def test_targets_alone_can_be_registered_for_evaluation(tmp_path, caplog):
  """MetaICL's preprocessing leaves meta-training out on request."""
  provider = metaicl_folder.write(
    tmp_path, lines={"seen-a_16384_100_train": None}
  )
  with caplog.at_level(logging.WARNING):
    dataclasses.replace(provider, skip_missing=True).register()
  assert "own.json, 'train': 1 of 1 tasks lack files" in caplog.text
  assert metaicl_folder.tasks_of("metaicl_own_test") == ["metaicl_held_b"]
  tasks = SeqioTasks("metaicl_own_train", "train")
  with pytest.raises(ValueError, match="'metaicl_own_train' is registered"):
    tasks.find()


def test_a_task_in_both_lists_is_a_target_alone_and_reported(tmp_path, caplog):
  provider = metaicl_folder.write(
    tmp_path, ("seen-a", "sick"), ("held_b", "sick")
  )
  with caplog.at_level(logging.WARNING):
    provider.register()
  assert "1 train tasks are also test tasks and are left out" in caplog.text
  assert caplog.text.rstrip().endswith(": sick")
  assert metaicl_folder.tasks_of("metaicl_own_train") == ["metaicl_seen_a"]
  assert "metaicl_sick" in metaicl_folder.tasks_of("metaicl_own_test")
  assert "train" not in _splits("metaicl_sick")


def test_targets_of_unifiedqa_have_no_dev_split(tmp_path):
  """Its preprocessing writes train and test files alone."""
  name = "unifiedqa:qasc"
  provider = metaicl_folder.write(
    tmp_path,
    test=(name,),
    lines={f"{name}_16_{seed}_dev": None for seed in (100, 13)},
  )
  provider.register()
  assert set(_splits("metaicl_unifiedqa:qasc")) == {
    "train_100",
    "train_13",
    "test_100",
    "test_13",
  }


def test_names_that_seqio_cannot_tell_apart_are_refused(tmp_path):
  provider = metaicl_folder.write(tmp_path, ("a-b",), ("a_b",))
  with pytest.raises(
    ValueError, match=r"'a-b' and 'a_b' would both .*'metaicl_a_b'"
  ):
    provider.register()


def test_a_second_setting_does_not_replace_the_first_ones_tasks(tmp_path):
  provider = metaicl_folder.write(tmp_path)
  provider.register()
  provider.register()
  config = tmp_path / "metaicl" / "config"
  (config / "other.json").write_text((config / "own.json").read_text())
  with pytest.raises(ValueError, match=r"'metaicl_seen_a' is registered"):
    dataclasses.replace(provider, setting="other").register()


@pytest.mark.parametrize("seeds", [(), (13, 13), (1.5,), ("13",), 13, (-1,)])
def test_seeds_are_different_whole_numbers(seeds):
  with pytest.raises(ValueError, match=r"MetaICL\.seeds must be .*got"):
    MetaICL("/data", seeds=seeds)
