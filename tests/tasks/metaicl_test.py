import collections
import dataclasses
import json
import logging

import pytest

from hyperjax.batch import Lengths
from hyperjax.data.episodes import Episodes, FewShot
from hyperjax.data.store.seqio_store import SeqioTasks
from hyperjax.tasks import metaicl, records
from hyperjax.tasks.metaicl import MetaICL
from tests import conftest

pytestmark = pytest.mark.seqio
pytest.importorskip("seqio")

SETTINGS = (
  "hr_to_lr",
  "class_to_class",
  "non_class_to_class",
  "qa_to_qa",
  "non_qa_to_qa",
  "non_nli_to_nli",
  "non_paraphrase_to_paraphrase",
)
SEEDS = (100, 13, 21, 42, 87)
SENTIMENT = {"task_type": "classification", "options": ["bad", "good"]}
CHOICE = {"task_type": "multi-choice", "options": None}
FREE = {"task_type": "free-form", "options": None}
SHOTS, TESTS = 16, 3  # lines of a target's files, as _folder writes them


def _line(task, number, output="good", options=("bad", "good")):
  return {
    "task": task,
    "input": f"in {number} [SEP] rest",
    "output": output,
    "options": list(options),
  }


def _folder(
  root,
  train=("seen-a",),
  test=("held_b",),
  unseen=(),
  configs=None,
  lines=None,
  seeds=(100, 13),
):
  """A data set in MetaICL's layout with one setting, "own".

  `configs` and `lines` replace a task's config and a file's lines; None removes
  the file.
  """
  folder = root / "metaicl"
  (folder / "config" / "tasks").mkdir(parents=True)
  lists = {"train": train, "test": test, "unseen_domain_test": unseen}
  (folder / "config" / "own.json").write_text(json.dumps(lists))
  for name in {*train, *test}:
    files = {}
    if name in train:
      files["16384_100_train"] = [_line(name, i) for i in range(5)]
    if name in test:
      for split, count in (("train", SHOTS), ("dev", 2), ("test", TESTS)):
        for seed in seeds:
          rows = [_line(name, f"{split} {seed} {i}") for i in range(count)]
          files[f"16_{seed}_{split}"] = rows
    (folder / "data" / name).mkdir(parents=True)
    for stem, rows in files.items():
      file = f"{name}_{stem}"
      rows = (lines or {}).get(file, rows)
      if rows is not None:
        path = folder / "data" / name / f"{file}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = (configs or {}).get(name, SENTIMENT)
    if config is not None:
      path = folder / "config" / "tasks" / f"{name}.json"
      path.write_text(json.dumps(config))
  return MetaICL(
    str(root),
    vocabulary=str(records.VOCABULARY),
    extra_ids=0,
    setting="own",
    seeds=seeds,
  )


def _rows(provider, name, split, root):
  tasks = SeqioTasks(
    name, split, (provider,), str(root / "cache"), keep_records=True
  )
  (task,) = tasks.open()
  return [task.rows.record(i) for i in range(len(task.rows))]


def _tasks_of(mixture):
  import seqio

  return [t.name for t in seqio.get_mixture_or_task(mixture).tasks]


def _splits(name):
  import seqio

  return list(seqio.TaskRegistry.get(name).splits)


def test_a_setting_is_three_mixtures_with_splits_by_role(tmp_path):
  provider = _folder(
    tmp_path, ("seen-a", "seen_c"), ("held_b", "held_d"), ("held_d",)
  )
  provider.register()
  assert _tasks_of("metaicl_own_train") == ["metaicl_seen_a", "metaicl_seen_c"]
  assert _tasks_of("metaicl_own_test") == ["metaicl_held_b", "metaicl_held_d"]
  assert _tasks_of("metaicl_own_unseen_domain_test") == ["metaicl_held_d"]
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
  few = [_line("few", i) for i in range(2)]
  provider = _folder(
    tmp_path, ("few", "many"), lines={"few_16384_100_train": few}
  )
  tasks = SeqioTasks(
    "metaicl_own_train", "train", (provider,), str(tmp_path / "cache")
  ).open()
  assert [(len(t.rows), t.rate) for t in tasks] == [(2, 1.0), (5, 1.0)]


def test_a_row_keeps_the_texts_as_metaicl_has_them(tmp_path):
  line = _line("held_b", 0) | {"input": " one [SEP] two "}
  provider = _folder(tmp_path, lines={"held_b_16_13_test": [line]})
  (row,) = _rows(provider, "metaicl_held_b", "test_13", tmp_path)
  assert row == {
    "inputs_pretokenized": " one [SEP] two ",
    "targets_pretokenized": "good",
    "references": ["good"],
    "choices": ["bad", "good"],
    "task_type": "classification",
    "id": "held_b_16_13_test.jsonl:1",
  }


def test_each_split_reads_its_own_file(tmp_path):
  provider = _folder(tmp_path)
  for split, count in (("train", SHOTS), ("dev", 2), ("test", TESTS)):
    for seed in (100, 13):
      rows = _rows(provider, "metaicl_held_b", f"{split}_{seed}", tmp_path)
      assert [row["inputs_pretokenized"] for row in rows] == [
        f"in {split} {seed} {i} [SEP] rest" for i in range(count)
      ]


def test_choices_of_a_multi_choice_task_are_those_of_the_line(tmp_path):
  lines = [
    _line("held_b", 0, "x", ("x", "y")),
    _line("held_b", 1, "q", ("p", "q", "r")),
    _line("held_b", 2, "two", ("water", "two", "water")),  # as codah has
  ]
  provider = _folder(
    tmp_path, configs={"held_b": CHOICE}, lines={"held_b_16_100_test": lines}
  )
  rows = _rows(provider, "metaicl_held_b", "test_100", tmp_path)
  assert [row["choices"] for row in rows] == [
    ["x", "y"],
    ["p", "q", "r"],
    ["water", "two", "water"],
  ]
  assert {row["task_type"] for row in rows} == {"multi-choice"}


def test_free_form_outputs_may_have_alternatives(tmp_path):
  """A list is what scoring accepts; of tabs, preprocessing takes the first."""
  lines = [
    _line("seen-a", 0, "one", ()),
    _line("seen-a", 1, ["one", "two"], ()),
    _line("seen-a", 2, "one\ttwo", ()),
  ]
  provider = _folder(
    tmp_path, configs={"seen-a": FREE}, lines={"seen-a_16384_100_train": lines}
  )
  rows = _rows(provider, "metaicl_seen_a", "train", tmp_path)
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

  lines = [_line("seen-a", 0, "one", ())]
  _folder(
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
    _line("seen-a", 0, "x", ("x", "y")),
    _line("seen-a", 1, " "),
    _line("seen-a", 2, "z", ("x", "y")),
    _line("seen-a", 3, "", ()),
    _line("seen-a", 4, "z", ()),  # as MetaICL's preprocessing of UnifiedQA
  ]
  provider = _folder(
    tmp_path,
    configs={"seen-a": CHOICE},
    lines={"seen-a_16384_100_train": lines},
  )
  with caplog.at_level(logging.WARNING):
    rows = _rows(provider, "metaicl_seen_a", "train", tmp_path)
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
  lines = [_line("seen-a", i, "good", ()) for i in range(2)]
  provider = _folder(tmp_path, lines={"seen-a_16384_100_train": lines})
  with caplog.at_level(logging.WARNING):
    rows = _rows(provider, "metaicl_seen_a", "train", tmp_path)
  assert len(rows) == 2
  assert "2 of 2 lines have fewer than two options and are kept" in caplog.text


@pytest.mark.parametrize(
  "config, fields, message",
  [
    (SENTIMENT, {"output": ""}, r"line 2 has a blank output: output '', "),
    (
      SENTIMENT,
      {"options": ["good", "bad"]},
      r"line 2: 'options' must be those",
    ),
    (
      SENTIMENT,
      {"options": ["bad"]},
      r"options' must be those of .*held_b\.json",
    ),
    (SENTIMENT, {"options": []}, r"line 2 has fewer than two options"),
    (
      SENTIMENT,
      {"options": None},
      r"line 2 has no 'options', only task, input",
    ),
    (SENTIMENT, {"output": "so-so"}, r"line 2 has an output that is not among"),
    (SENTIMENT, {"output": ["good"]}, r"line 2: 'output' must be a string"),
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
  lines = [_line("held_b", i) for i in range(SHOTS)]
  changed = lines[1] | fields
  lines[1] = {k: v for k, v in changed.items() if v is not None}
  file = f"held_b_16_13_{split}"
  provider = _folder(tmp_path, configs={"held_b": config}, lines={file: lines})
  with pytest.raises(ValueError, match=message) as error:
    _rows(provider, "metaicl_held_b", f"{split}_13", tmp_path)
  assert f"{file}.jsonl, line 2" in str(error.value)


def test_other_options_than_the_configs_are_refused_in_training_too(tmp_path):
  lines = [_line("seen-a", 0), _line("seen-a", 1, "x", ("x", "y"))]
  provider = _folder(tmp_path, lines={"seen-a_16384_100_train": lines})
  with pytest.raises(
    ValueError, match=r"line 2: 'options' .*'good'\], got \['x', 'y'\]"
  ):
    _rows(provider, "metaicl_seen_a", "train", tmp_path)


@pytest.mark.parametrize("count", [15, 17])
def test_a_target_has_exactly_sixteen_demonstrations(tmp_path, count):
  lines = [_line("held_b", i) for i in range(count)]
  provider = _folder(tmp_path, lines={"held_b_16_13_train": lines})
  with pytest.raises(
    ValueError, match=rf"held_b_16_13_train\.jsonl has {count} .*exactly 16"
  ):
    _rows(provider, "metaicl_held_b", "train_13", tmp_path)


def test_a_missing_setting_is_refused_with_those_there_are(tmp_path):
  with pytest.raises(ValueError, match=r"DATA_DIR: there is no .*metaicl"):
    MetaICL(str(tmp_path)).register()
  provider = dataclasses.replace(_folder(tmp_path), setting="hr_to_rl")
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
  provider = _folder(tmp_path)
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
    (SENTIMENT | {"options": None}, r"'options' must be a list .*got None"),
    (SENTIMENT | {"options": ["yes"]}, r"two different texts, got \['yes'\]"),
    (SENTIMENT | {"options": ["a", "a"]}, r"two different texts"),
    (SENTIMENT | {"options": []}, r"two different texts, got \[\]"),
  ],
)
def test_a_broken_task_config_is_refused_by_file(tmp_path, config, message):
  provider = _folder(tmp_path, configs={"held_b": config})
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
  provider = _folder(
    tmp_path, test=("held_b", "held_d"), unseen=("held_b",), **removed
  )
  with pytest.raises(ValueError, match=message):
    provider.register()
  with caplog.at_level(logging.WARNING):
    dataclasses.replace(provider, skip_missing=True).register()
  assert "own.json, 'test': 1 of 2 tasks lack files" in caplog.text
  assert _tasks_of("metaicl_own_test") == ["metaicl_held_d"]


def test_targets_alone_can_be_registered_for_evaluation(tmp_path, caplog):
  """MetaICL's preprocessing leaves meta-training out on request."""
  provider = _folder(tmp_path, lines={"seen-a_16384_100_train": None})
  with caplog.at_level(logging.WARNING):
    dataclasses.replace(provider, skip_missing=True).register()
  assert "own.json, 'train': 1 of 1 tasks lack files" in caplog.text
  assert _tasks_of("metaicl_own_test") == ["metaicl_held_b"]
  tasks = SeqioTasks("metaicl_own_train", "train")
  with pytest.raises(ValueError, match="'metaicl_own_train' is registered"):
    tasks.find()


def test_a_task_in_both_lists_is_a_target_alone_and_reported(tmp_path, caplog):
  provider = _folder(tmp_path, ("seen-a", "sick"), ("held_b", "sick"))
  with caplog.at_level(logging.WARNING):
    provider.register()
  assert "1 train tasks are also test tasks and are left out" in caplog.text
  assert caplog.text.rstrip().endswith(": sick")
  assert _tasks_of("metaicl_own_train") == ["metaicl_seen_a"]
  assert "metaicl_sick" in _tasks_of("metaicl_own_test")
  assert "train" not in _splits("metaicl_sick")


def test_targets_of_unifiedqa_have_no_dev_split(tmp_path):
  """Its preprocessing writes train and test files alone."""
  name = "unifiedqa:qasc"
  provider = _folder(
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
  provider = _folder(tmp_path, ("a-b",), ("a_b",))
  with pytest.raises(
    ValueError, match=r"'a-b' and 'a_b' would both .*'metaicl_a_b'"
  ):
    provider.register()


def test_a_second_setting_does_not_replace_the_first_ones_tasks(tmp_path):
  provider = _folder(tmp_path)
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


def _real(data_dir, setting, **fields):
  return MetaICL(str(data_dir), setting=setting, **fields)


def _facts(data_dir):
  folder = data_dir / "metaicl"
  manifest = json.loads((folder / "manifest.json").read_text())
  coverage = json.loads((folder / "coverage.json").read_text())
  return {entry["task"]: entry for entry in manifest}, coverage


# Tasks of the released lists: train, test, unseen_domain_test.
SIZES = {
  "hr_to_lr": (61, 26, 4),
  "class_to_class": (43, 20, 4),
  "non_class_to_class": (37, 20, 4),
  "qa_to_qa": (37, 22, 1),
  "non_qa_to_qa": (33, 22, 1),
  "non_nli_to_nli": (55, 8, 1),
  "non_paraphrase_to_paraphrase": (59, 4, 1),
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_released_settings_hold_their_targets_out(
  data_dir, setting, tmp_path, caplog
):
  """All of their tasks, in a folder that has a file for each of them."""
  path = data_dir / "metaicl" / "config" / f"{setting}.json"
  lists = json.loads(path.read_text())
  assert tuple(map(len, lists.values())) == SIZES[setting]
  provider = _folder(tmp_path, **_roles(lists))
  provider.register()
  train, test, unseen = (
    _tasks_of(f"metaicl_own_{role}") for role in metaicl.ROLES
  )
  # "sick" is in both lists of one setting: a target alone, and said to be.
  is_nli = setting == "non_nli_to_nli"
  assert len(train) == SIZES[setting][0] - is_nli
  assert (len(test), len(unseen)) == SIZES[setting][1:]
  assert not set(train) & set(test) and set(unseen) <= set(test)
  assert ("left out of training: sick" in caplog.text) == is_nli
  assert ("metaicl_sick" in train) == (
    "sick" in lists["train"] and "sick" not in lists["test"]
  )


def _roles(lists):
  names = ("train", "test", "unseen")
  return {
    name: tuple(lists[role])
    for name, role in zip(names, metaicl.ROLES, strict=True)
  }


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_real_settings_have_the_tasks_of_their_coverage(
  data_dir, setting, caplog
):
  """The small lists, and what is left of the full ones without files."""
  _, coverage = _facts(data_dir)
  fact = coverage[setting]
  unseen = set(fact["unseen_domain_test"]) & set(fact["test_here"])
  expected = {
    "train": set(fact["train_here"]),
    "test": set(fact["test_here"]),
    "unseen_domain_test": unseen,
  }
  for provider in (
    _real(data_dir, f"small_{setting}"),
    _real(data_dir, setting, skip_missing=True),
  ):
    names = provider.task_names()
    assert {role: set(found) for role, found in names.items()} == expected
    assert sum(map(len, names.values())) == sum(map(len, expected.values()))
  num_missing = fact["test_total"] - len(fact["test_here"])
  assert f"{num_missing} of {fact['test_total']} tasks lack" in caplog.text
  has_sick = "left out of training: sick" in caplog.text
  assert has_sick == (setting == "non_nli_to_nli")


def test_the_real_files_have_the_lines_of_their_manifest(data_dir):
  """Each task once in either role; every line passes every check."""
  import seqio

  manifest, _ = _facts(data_dir)
  num_lines, num_files = collections.Counter(), collections.Counter()
  read = set()
  for setting in SETTINGS:
    provider = _real(data_dir, f"small_{setting}")
    provider.register()
    for role, names in provider.task_names().items():
      for name in names:
        if role == "unseen_domain_test" or (role, name) in read:
          continue
        read.add((role, name))
        task = seqio.TaskRegistry.get(metaicl.task_name(name))
        counts = _counts(task, manifest[name])
        num_lines[role] += sum(counts)
        num_files[role] += len(counts)
    conftest.forget_tasks()
  assert num_files == {"train": 49, "test": 23 * 3 * len(SEEDS)}
  # All there are: the lines that the data's description counts.
  assert num_lines.total() == 48288


def _counts(task, fact):
  """Lines of each split of a task, which must be those of the manifest."""
  if task.splits == ("train",):
    expected = {"train": fact["files"]["16384_100_train"]}
  else:
    expected = {
      f"{split}_{seed}": fact["files"][f"16_<seed>_{split}"]
      for split in ("train", "dev", "test")
      for seed in SEEDS
    }
  assert set(task.splits) == set(expected)
  for split, count in expected.items():
    rows = list(task.source.rows(split))
    assert len(rows) == count, (task.name, split)
    assert {row["task_type"] for row in rows} == {fact["task_type"]}
    assert all(row["targets"] in row["choices"] for row in rows)
  return list(expected.values())


def test_real_tests_are_the_same_for_every_seed_and_shots_are_not(
  data_dir, tmp_path
):
  provider = _real(data_dir, "small_hr_to_lr")
  texts = {
    split: {
      seed: tuple(
        (row["inputs_pretokenized"], tuple(row["choices"]))
        for row in _rows(
          provider, "metaicl_openbookqa", f"{split}_{seed}", tmp_path
        )
      )
      for seed in SEEDS
    }
    for split in ("train", "test")
  }
  assert len(set(texts["test"].values())) == 1
  assert len(set(texts["train"].values())) == len(SEEDS)
  assert {len(choices) for _, choices in texts["test"][13]} == {4}


def test_no_real_target_is_among_its_own_demonstrations_by_text(
  data_dir, tmp_path
):
  """Texts from the data set's own files; every task is met."""
  provider = _real(data_dir, "small_hr_to_lr")
  tasks = SeqioTasks(
    "metaicl_small_hr_to_lr_train", "train", (provider,), str(tmp_path)
  ).open()
  assert len(tasks) == 15
  texts = {}
  for name in provider.task_names()["train"]:
    file = f"{name}_16384_100_train.jsonl"
    content = (data_dir / "metaicl" / "data" / name / file).read_text()
    texts[metaicl.task_name(name)] = [
      json.loads(line)["input"] for line in content.splitlines()
    ]
  lengths = Lengths(inputs=256, targets=256, demonstrations=1024)
  source = Episodes(tasks, FewShot((1, 16)), lengths, seed=3)
  met, num_demonstrations = set(), 0
  for index in range(3000):
    episode = source.episode(index)
    name = source.tasks[episode.task].name
    (target,) = episode.targets
    shown = {texts[name][row] for row in episode.demonstrations}
    assert texts[name][target] not in shown, (name, index)
    met.add(name)
    num_demonstrations += len(shown)
  assert met == set(texts)
  assert num_demonstrations > 3 * 3000
