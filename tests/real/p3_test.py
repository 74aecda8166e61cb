"""P3's real subsets, and T0's mixtures of the official list of them."""

import collections
import json

import numpy as np
import pytest

from hyperjax.batch import Lengths
from hyperjax.data import order, vocabulary
from hyperjax.data.episodes import Episodes, FewShot
from hyperjax.data.store.seqio_store import SeqioTasks
from hyperjax.tasks import p3_files, p3_rows, t0
from hyperjax.tasks.p3 import P3
from tests import conftest
from tests.tasks import p3_folder

pytestmark = pytest.mark.seqio


def _manifest(data_dir):
  return json.loads((data_dir / "p3" / "manifest.json").read_text())


def test_a_real_subset_is_stored_as_its_text_is_tokenised(data_dir, tmp_path):
  name = "super_glue_copa__why_C1_or_C2"
  tokens, records_of = [], []
  for kind in ("stored", "text"):
    provider = P3(str(data_dir), tokens=kind)
    for task, split in (
      (f"p3_{name}", "train"),
      (f"p3_{name}_score_eval", "validation"),
      (f"p3_{name}_score_eval", "demonstrations"),
    ):
      tasks = SeqioTasks(task, split, (provider,), str(tmp_path), False, True)
      (opened,) = tasks.open()
      tokens.append(opened.rows.tokens)
      records_of.append(
        [opened.rows.record(i) for i in range(len(opened.rows))]
      )
    conftest.forget_tasks()
  for stored, made in zip(tokens[:3], tokens[3:], strict=True):
    np.testing.assert_array_equal(stored, made)
  assert records_of[:3] == records_of[3:]
  assert records_of[0] == [
    {k: v for k, v in row.items() if k not in ("is_correct", "weight")}
    for row in records_of[2]
  ]


@pytest.mark.slow
def test_every_real_file_has_the_rows_of_its_manifest_and_t5s_ids(data_dir):
  own = vocabulary.SentencePiece(
    str(data_dir / "vocab" / "t5" / "spiece.model")
  )
  subsets = P3(str(data_dir)).subsets()
  manifest = {entry["name"]: entry for entry in _manifest(data_dir)}
  assert subsets.keys() == manifest.keys() and len(subsets) == 247
  for name, subset in subsets.items():
    entry = manifest[name]
    is_scored = name.endswith("_score_eval")
    expected = entry["examples"] if is_scored else entry["splits"]
    read = p3_rows.scored_rows if is_scored else p3_rows.rows
    assert set(subset.splits) == set(expected)
    for split in subset.splits:
      count = 0
      for row in read(p3_files.Split(subset.folder, split), own):
        for feature in ("inputs", "targets"):
          text, ids = row[feature]
          assert ids.tolist() == [*own.encode(text), own.eos_id], (name, split)
        count += 1
      assert count == expected[split], (name, split)


# Of the official list: train size and number of templates in P3, by the
# beginning of their names.
OFFICIAL = {
  "BASE": {
    "adversarial_qa_dbert": (10_000, 5),
    "adversarial_qa_dbidaf": (10_000, 5),
    "adversarial_qa_droberta": (10_000, 5),
    "ag_news": (120_000, 7),
    "amazon_polarity": (3_600_000, 9),
    "app_reviews": (288_065, 4),
    "cnn_dailymail_3.0.0": (287_113, 9),
    "common_gen": (67_389, 9),
    "cos_e_v1.11": (9_741, 11),
    "cosmos_qa": (25_262, 13),
    "dbpedia_14": (560_000, 4),
    "dream": (6_116, 5),
    "duorc_ParaphraseRC": (69_524, 9),
    "duorc_SelfRC": (60_721, 9),
    "gigaword": (3_803_957, 9),
    "glue_mrpc": (3_668, 7),
    "glue_qqp": (363_846, 6),
    "imdb": (25_000, 11),
    "kilt_tasks_hotpotqa": (88_869, 5),
    "multi_news": (44_972, 6),
    "paws_labeled_final": (49_401, 12),
    "qasc": (8_134, 8),
    "quail": (10_246, 13),
    "quarel": (1_941, 5),
    "quartz": (2_696, 8),
    "quoref": (19_399, 11),
    "ropes": (10_924, 12),
    "rotten_tomatoes": (8_530, 10),
    "samsum": (14_732, 7),
    "sciq": (11_679, 5),
    "social_i_qa": (33_410, 6),
    "trec": (5_452, 18),
    "wiki_bio": (582_659, 5),
    "wiki_hop_original": (43_738, 9),
    "wiki_qa": (20_360, 11),
    "wiqa": (29_808, 8),
    "xsum": (204_045, 10),
    "yelp_review_full": (650_000, 7),
  },
  "GPT_EVAL": {
    "ai2_arc_ARC_Challenge": (1_119, 6),
    "ai2_arc_ARC_Easy": (2_251, 6),
    "hellaswag": (39_905, 11),
    "openbookqa_main": (4_957, 7),
    "piqa": (16_113, 11),
    "race_high": (62_445, 8),
    "race_middle": (25_421, 8),
    "squad_v2": (130_319, 12),
    "trivia_qa_unfiltered": (87_622, 5),
    "web_questions": (3_778, 5),
  },
  "SGLUE": {
    "super_glue_boolq": (9_427, 10),
    "super_glue_copa": (400, 12),
    "super_glue_multirc": (27_243, 10),
    "super_glue_record": (100_730, 20),
    "super_glue_wic": (5_428, 10),
    "super_glue_wsc.fixed": (554, 10),
  },
}


# Half a million over the templates of data sets that have more.
SHARES = {
  "amazon_polarity": 55_555,
  "dbpedia_14": 125_000,
  "gigaword": 55_555,
  "wiki_bio": 100_000,
  "yelp_review_full": 71_428,
}


# Templates with choices of the original task, which is what is scored.
HELD_OUT = {
  "anli": 45,  # 15 in each of three rounds
  "hellaswag": 4,
  "super_glue_cb": 15,
  "super_glue_copa": 12,
  "super_glue_rte": 10,
  "super_glue_wic": 10,
  "super_glue_wsc.fixed": 10,
  "winogrande_winogrande_xl": 5,
}


NUM_TRAINED = {"t0": 313, "t0p": 392, "t0pp": 464}


NUM_HELD_OUT = {"t0": 111, "t0p": 107, "t0pp": 75}


def _official(data_dir):
  path = data_dir / "p3" / "p3_official_subsets.json"
  return json.loads(path.read_text())["subsets"]


def _of(name, prefixes):
  """The one data set that a subset's name begins with."""
  (found,) = [x for x in prefixes if name.startswith(f"{x}_")]
  return found


@pytest.mark.parametrize("mixture", t0.MIXTURES)
def test_all_official_subsets_have_their_official_rates(data_dir, mixture):
  official = _official(data_dir)
  datasets = t0.read_datasets(data_dir / "p3")
  assert len(official) == 660 and len(datasets) == 66
  groups = t0.MIXTURES[mixture]
  rates = t0.train_rates(
    official, datasets, groups, lambda _, dataset: dataset.train_size
  )
  expected = {
    name: fact for group in groups for name, fact in OFFICIAL[group].items()
  }
  counts = collections.Counter(_of(name, expected) for name in rates)
  assert counts == {name: fact[1] for name, fact in expected.items()}
  assert len(rates) == NUM_TRAINED[mixture]
  # gigaword_summarize_ among them, which has another name in P3.
  assert not t0.BLACKLIST & official.keys()
  for name, rate in rates.items():
    dataset = _of(name, expected)
    assert rate == SHARES.get(dataset, expected[dataset][0]), name


@pytest.mark.parametrize("mixture", t0.MIXTURES)
def test_no_official_subset_is_trained_on_and_held_out(data_dir, mixture):
  official = _official(data_dir)
  datasets = t0.read_datasets(data_dir / "p3")
  groups = t0.MIXTURES[mixture]
  trained = t0.train_rates(official, datasets, groups, lambda *_: 1)
  held_out = t0.held_out(official, datasets, groups)
  taken = {"t0": set(), "t0p": {"hellaswag"}}.get(
    mixture,
    {"hellaswag", "super_glue_copa", "super_glue_wic", "super_glue_wsc.fixed"},
  )
  counts = collections.Counter(_of(name, HELD_OUT) for name in held_out)
  assert counts == {k: v for k, v in HELD_OUT.items() if k not in taken}
  assert len(held_out) == NUM_HELD_OUT[mixture]
  assert not {_of(name, HELD_OUT) for name in held_out} & {
    name for group in groups for name in OFFICIAL[group]
  }
  assert not set(map(t0.ordinary, held_out)) & trained.keys()


def test_every_official_held_out_subset_has_what_an_evaluation_reads(data_dir):
  """Also ANLI's rounds, whose dev_r1 is "validation" in P3."""
  official = _official(data_dir)
  scored = t0.held_out(
    official, t0.read_datasets(data_dir / "p3"), t0.MIXTURES["t0"]
  )
  for name in scored:
    assert "validation" in official[name]["splits"], name
    assert "train" in official[t0.ordinary(name)]["splits"], name
  rows = {"r1": 16_946, "r2": 45_460, "r3": 100_459}
  for name in [name for name in scored if name.startswith("anli_")]:
    pool = official[t0.ordinary(name)]["splits"]
    anli_round = t0.ordinary(name)[-2:]
    assert pool["train"] == rows[anli_round], name
    # Three choices of each of 1,000, in the last round 1,200, examples.
    num_examples = 1_200 if anli_round == "r3" else 1_000
    assert official[name]["splits"]["validation"] == 3 * num_examples


@pytest.mark.slow
def test_no_real_target_is_among_its_own_demonstrations_by_text(
  data_dir, tmp_path
):
  """Of T0's training mixture; some rows stand in a subset twice."""
  tasks = SeqioTasks(
    "p3_t0_train",
    "train",
    (P3(str(data_dir), train_sizes="official"),),
    str(tmp_path),
    keep_records=True,
  ).open()
  assert len(tasks) == 87
  texts = {
    task.name: [
      task.rows.record(i)["inputs_pretokenized"] for i in range(len(task.rows))
    ]
    for task in tasks
  }
  lengths = Lengths(inputs=1024, targets=256, demonstrations=1024)
  source = Episodes(tasks, FewShot((1, 16)), lengths, seed=3)
  met = collections.Counter()
  count = order.TaskOrder.block_size
  for index in range(count):
    episode = source.episode(index)
    name = source.tasks[episode.task].name
    (target,) = episode.targets
    shown = {texts[name][row] for row in episode.demonstrations}
    assert shown and texts[name][target] not in shown, (name, index)
    met[name] += 1
  # Each is met as often as its rate says, to one.
  rates = p3_folder.rates("p3_t0_train")
  for name, rate in rates.items():
    wanted = count * rate / sum(rates.values())
    assert abs(met[f"p3_{name}"] - wanted) <= 1, name


# The train size of T0's list, or its share, and how many templates are here.
TEMPLATES = {
  "BASE": {
    "ag_news": (120_000, 7),
    "cos_e_v1.11": (9_741, 6),
    "cosmos_qa": (25_262, 13),
    "dbpedia_14": (125_000, 4),  # 560,000: more than half a million
    "imdb": (25_000, 11),
    "paws_labeled_final": (49_401, 12),
    "rotten_tomatoes": (8_530, 10),
    "social_i_qa": (33_410, 6),
    "trec": (5_452, 18),
  },
  "GPT_EVAL": {
    "ai2_arc_ARC_Challenge": (1_119, 6),
    "ai2_arc_ARC_Easy": (2_251, 6),
    "openbookqa_main": (4_957, 7),
    "piqa": (16_113, 11),
  },
  "SGLUE": {
    "super_glue_boolq": (9_427, 10),
    "super_glue_copa": (400, 12),
    "super_glue_wic": (5_428, 10),
    "super_glue_wsc.fixed": (554, 8),
  },
}


def test_the_real_subsets_have_their_official_rates(data_dir):
  P3(str(data_dir), train_sizes="official").register()
  expected = {}
  for mixture, group in zip(t0.MIXTURES, TEMPLATES, strict=True):
    expected |= TEMPLATES[group]
    found = collections.Counter()
    for name, rate in p3_folder.rates(f"p3_{mixture}_train").items():
      (prefix,) = [p for p in expected if name.startswith(f"{p}_")]
      found[prefix, rate] += 1
    assert found == {
      (prefix, rate): count for prefix, (rate, count) in expected.items()
    }


def test_the_real_groups_are_the_real_mixtures_and_never_meet(data_dir):
  P3(str(data_dir)).register()
  groups = collections.defaultdict(set)
  sizes = {}
  for entry in _manifest(data_dir):
    groups[entry["group"]].add(entry["name"])
    sizes[entry["name"]] = entry["splits"].get("train")
  scored = {name for name in groups["eval"] if name.endswith("_score_eval")}
  assert len(groups["train"]) == 87 and len(scored) == 60
  t0_train, t0p_train, t0pp_train = (
    p3_folder.rates(f"p3_{mixture}_train") for mixture in t0.MIXTURES
  )
  assert t0_train == {name: sizes[name] for name in groups["train"]}
  assert t0p_train.keys() == groups["train"] | groups["train+"]
  taken = {
    name
    for name in groups["eval"] - scored
    if name.startswith(("super_glue_wic", "super_glue_copa", "super_glue_wsc"))
  }
  assert len(taken) == 30
  assert t0pp_train.keys() == t0p_train.keys() | groups["train++"] | taken
  assert p3_folder.rates("p3_t0_eval").keys() == scored
  assert p3_folder.rates("p3_t0p_eval").keys() == scored
  left = {name for name in scored if name[: -len("_score_eval")] not in taken}
  assert p3_folder.rates("p3_t0pp_eval").keys() == left and len(left) == 30
  for mixture in t0.MIXTURES:
    trained = p3_folder.rates(f"p3_{mixture}_train").keys()
    for name in p3_folder.rates(f"p3_{mixture}_eval"):
      assert t0.ordinary(name) not in trained
