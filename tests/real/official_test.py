"""Figures of real predictions, as the data sets' own scorers have them."""

import json
import pathlib
import struct

import numpy as np
import pytest

from hyperjax.evaluation.official import metaicl, p3, sni
from hyperjax.scores import p3_sets, text_metrics


def _write(path, rows):
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return path


def test_scores_are_the_official_ones(data_dir):
  official = json.loads(
    (data_dir / "official_metrics" / "sni_predictions.json").read_text()
  )
  by_task = {}
  for row in official["rows"]:
    found = {
      "exact_match": text_metrics.exact_match(
        row["prediction"], row["references"]
      ),
      "rougeL": text_metrics.rouge_l(row["prediction"], row["references"]),
    }
    for name, value in found.items():
      assert value == pytest.approx(row[name], abs=1e-12), row
      by_task.setdefault(f"{name}_for_{row['task_id']}", []).append(value)
  assert official["per_task"]
  for name, wanted in official["per_task"].items():
    assert round(100 * np.mean(by_task[name]), 4) == wanted


def test_edge_cases_are_the_official_ones(data_dir):
  folder = data_dir / "official_metrics"
  for pair in json.loads((folder / "rougeL_pairs.json").read_text()):
    prediction, references = pair["prediction"], [pair["reference"]]
    found = text_metrics.rouge_l(prediction, references)
    assert found == pytest.approx(pair["rougeL_fmeasure"], abs=1e-12)
    assert (
      text_metrics.exact_match(prediction, references) == pair["exact_match"]
    )
  for case in json.loads((folder / "sni_normalize.json").read_text()):
    assert text_metrics._normalize(case["text"]) == case["normalized"]


def test_figures_of_sni_are_the_official_ones(data_dir, tmp_path):
  path = data_dir / "official_metrics" / "sni_predictions.json"
  official = json.loads(path.read_text())
  keep = ("id", "references", "task_id", "task_category", "track")
  references = _write(
    tmp_path / "references.jsonl",
    [{key: row[key] for key in keep} for row in official["rows"]],
  )
  predictions = _write(
    tmp_path / "predictions.jsonl",
    [
      {"id": row["id"], "prediction": row["prediction"]}
      for row in official["rows"]
    ],
  )
  report = sni.score_files([predictions], None, references)
  assert not report.notes
  assert official["per_task"]
  for name, wanted in official["per_task"].items():
    assert report.extra["official"][f"{name}_default_track"] == wanted
  for name in ("exact_match", "rougeL"):
    rows = [row[name] for row in official["rows"]]
    assert report.overall[name] == round(100 * sum(rows) / len(rows), 4)
  # The same instances, with the references of the tasks' own files.
  by_folder = sni.score_files(
    [predictions], data_dir / "sni", split_list="small"
  )
  assert by_folder.overall["instances"] == 6284
  missing = 6284 - len(official["rows"])
  assert f": {missing} of 6284 instances" in by_folder.notes[0]


def test_values_of_metaicl_are_the_official_ones(data_dir):
  folder = data_dir / "official_metrics"
  rows = json.loads((folder / "metaicl_evaluate.json").read_text())["rows"]
  rows += json.loads((folder / "metaicl_evaluate_small.json").read_text())
  assert len(rows) > 100
  for row in rows:
    found = metaicl.evaluate(
      row["predictions"], row["groundtruths"], row["is_classification"]
    )
    assert found == pytest.approx(row["metaicl_evaluate"], rel=1e-14, abs=0)


def test_files_of_all_tasks_give_the_official_values(data_dir, tmp_path):
  path = data_dir / "official_metrics" / "metaicl_evaluate.json"
  wanted: dict[str, dict[str, float]] = {}
  lines = []
  for row in json.loads(path.read_text())["rows"]:
    seeds = wanted.setdefault(row["task"], {})
    seed = str(len(seeds))
    seeds[seed] = 100 * row["metaicl_evaluate"]
    pairs = zip(row["predictions"], row["groundtruths"], strict=True)
    lines += [
      {"task": row["task"], "seed": seed, "prediction": x, "output": y}
      | {"task_type": row["task_type"]}
      for x, y in pairs
    ]
  report = metaicl.score_files([_write(tmp_path / "x.jsonl", lines)])
  assert report.extra["seeds"] == {
    task: pytest.approx(seeds, rel=1e-13) for task, seeds in wanted.items()
  }


def test_right_answers_of_a_real_setting_are_all_right(data_dir, tmp_path):
  folder = data_dir / "metaicl"
  config = json.loads((folder / "config" / "small_hr_to_lr.json").read_text())
  for task in config["test"]:
    gold = folder / "data" / task / f"{task}_16_87_test.jsonl"
    texts = [json.loads(x)["output"] for x in gold.read_text().splitlines()]
    name = f"{task}-test-direct-k=16-s=87.txt"
    (tmp_path / name).write_text("".join(f"{text}\n" for text in texts))
  report = metaicl.score_files([tmp_path], folder, "small_hr_to_lr")
  assert report.overall == {
    "mean": 100.0,
    "worst": 100.0,
    "tasks": len(config["test"]),
  }
  unseen = report.groups["domains"]["unseen"]
  assert unseen["tasks"] == len(config["unseen_domain_test"])
  assert not report.notes


def test_every_score_eval_subset_of_p3_is_of_a_known_data_set(data_dir):
  path = data_dir / "p3" / "p3_official_subsets.json"
  subsets = json.loads(path.read_text())["subsets"]
  counts: dict[str | None, int] = {}
  for name in subsets:
    if name.endswith("_score_eval"):
      key = p3_sets.data_set(name)
      counts[key] = counts.get(key, 0) + 1
  assert counts.pop("winogrande_winogrande_debiased") == 5
  assert {name: counts.get(name) for name in counts} == {
    name: number for name, number in p3_sets.HELD_OUT.items() if number
  }


def _records(path: pathlib.Path):
  """(idx, is_correct, tokens) of the examples of a TFRecord file."""
  from tensorflow.core.example import example_pb2

  content, start = path.read_bytes(), 0
  while start < len(content):
    (length,) = struct.unpack("<Q", content[start : start + 8])
    example = example_pb2.Example.FromString(
      content[start + 12 : start + 12 + length]
    )
    features = {
      name: list(feature.int64_list.value)
      for name, feature in example.features.feature.items()
    }
    yield features["idx"], bool(features["is_correct"][0]), features["targets"]
    start += length + 16


@pytest.mark.seqio
def test_scores_of_real_subsets_are_complete_or_refused(data_dir, tmp_path):
  """The right choice gets the highest score, in every third example."""
  folder = data_dir / "p3"
  names = sorted((folder / "data").glob("super_glue_c*_score_eval"))
  assert len(names) == 15 + 12
  for name in names:
    (records,) = name.glob("validation.tfrecord*")
    rows = []
    for idx, is_correct, tokens in _records(records):
      is_told = idx[0] % 3 == 0
      score = -float(is_correct != is_told)
      rows.append(
        {
          "task": name.name,
          "idx": idx,
          "is_correct": is_correct,
          "score": score,
          "length": len(tokens),
        }
      )
    _write(tmp_path / f"{name.name}-000100.jsonl", rows)
  report = p3.score_files([tmp_path], folder)
  assert report.overall["data sets"] == 2
  assert not [note for note in report.notes if "fewer" in note]
  # Of 56 examples those with a number divisible by 3 are 19.
  cb = report.groups["data sets"]["super_glue_cb"]
  assert cb["mean"] == pytest.approx(100 * 19 / 56)
  short = tmp_path / f"{names[0].name}-000100.jsonl"
  lines = short.read_text().splitlines(keepends=True)
  # A whole example less, so that only P3's own count tells.
  count = max(json.loads(line)["idx"][0] for line in lines)
  lines = [line for line in lines if json.loads(line)["idx"][0] != count]
  short.write_text("".join(lines))
  with pytest.raises(ValueError, match=r"but .*stats\.validation\.json says"):
    p3.score_files([short], folder)
