"""A data set of made-up tasks, as MetaICL lays them out."""

import json

import seqio

from hyperjax.data.store.seqio_store import SeqioTasks
from hyperjax.tasks import records
from hyperjax.tasks.metaicl import MetaICL

SENTIMENT = {"task_type": "classification", "options": ["bad", "good"]}


SHOTS, TESTS = 16, 3  # lines of a target's files, as write writes them


def line(task, number, output="good", options=("bad", "good")):
  return {
    "task": task,
    "input": f"in {number} [SEP] rest",
    "output": output,
    "options": list(options),
  }


def write(
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
      files["16384_100_train"] = [line(name, i) for i in range(5)]
    if name in test:
      for split, count in (("train", SHOTS), ("dev", 2), ("test", TESTS)):
        for seed in seeds:
          rows = [line(name, f"{split} {seed} {i}") for i in range(count)]
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


def rows(provider, name, split, root):
  tasks = SeqioTasks(
    name, split, (provider,), str(root / "cache"), keep_records=True
  )
  (task,) = tasks.open()
  return [task.rows.record(i) for i in range(len(task.rows))]


def tasks_of(mixture):
  return [t.name for t in seqio.get_mixture_or_task(mixture).tasks]
