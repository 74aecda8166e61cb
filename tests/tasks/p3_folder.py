"""A folder of P3 in the words of the records family, as bigscience/P3 has it."""

import json

import seqio
import tensorflow as tf

from hyperjax.tasks import records
from hyperjax.tasks.p3 import P3

IDS = {"dtype": "int32", "shape": [None]}
TEXT = {"dtype": "string", "shape": []}
PAIR = {
  "inputs": IDS,
  "inputs_pretokenized": TEXT,
  "targets": IDS,
  "targets_pretokenized": TEXT,
}
WITH_CHOICES = PAIR | {"answer_choices": {"dtype": "string", "shape": [None]}}
SCORED = PAIR | {
  "idx": IDS,
  "is_correct": {"dtype": "bool", "shape": []},
  "weight": {"dtype": "float32", "shape": []},
}


def pair(inputs, targets, **others):
  """A record as P3 has it: the end of sequence, 1, with targets alone."""
  encode = records.vocabulary().encode
  return {
    "inputs": encode(inputs),
    "inputs_pretokenized": inputs,
    "targets": [*encode(targets), 1],
    "targets_pretokenized": targets,
    **others,
  }


def choice(example, choice, inputs, targets, is_correct=False, weight=1.0):
  return pair(
    inputs,
    targets,
    idx=[example, choice],
    is_correct=is_correct,
    weight=weight,
  )


def _feature(value):
  values = value if isinstance(value, list) else [value]
  if not values:
    return tf.train.Feature()
  if all(isinstance(x, (str, bytes)) for x in values):
    content = [x.encode() if isinstance(x, str) else x for x in values]
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=content))
  if all(isinstance(x, float) for x in values):
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))
  content = [int(x) for x in values]
  return tf.train.Feature(int64_list=tf.train.Int64List(value=content))


def write(folder, features, rows, split="train"):
  """A split of a subset in P3's layout."""
  folder.mkdir(parents=True, exist_ok=True)
  (folder / "COMPLETED").touch()
  info = {"features": features, "num_shards": 1, "seqio_version": "0.0.6"}
  (folder / f"info.{split}.json").write_text(json.dumps(info))
  stats = json.dumps({"examples": len(rows)})
  (folder / f"stats.{split}.json").write_text(stats)
  path = str(folder / f"{split}.tfrecord-00000-of-00001")
  with tf.io.TFRecordWriter(path) as writer:
    for row in rows:
      named = {name: _feature(value) for name, value in row.items()}
      example = tf.train.Example(features=tf.train.Features(feature=named))
      writer.write(example.SerializeToString())


def line(name, subset, do_train, do_eval, size):
  return {
    "HF_name": name,
    "subset": subset,
    "do_train": do_train,
    "do_eval": do_eval,
    "train_size": size,
  }


def provider(root, lines=(), **options):
  path = root / "p3" / "t0_datasets.json"
  path.parent.mkdir(exist_ok=True)
  path.write_text(json.dumps(list(lines)))
  options = {"vocabulary": str(records.VOCABULARY), "extra_ids": 0} | options
  return P3(str(root), **options)


def rates(name):
  """Of a registered mixture, by subset."""
  mixture = seqio.MixtureRegistry.get(name)
  return {
    task.name.removeprefix("p3_"): mixture.get_rate(task)
    for task in mixture.tasks
  }
