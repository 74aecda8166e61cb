"""T0's mixtures of P3's subsets."""

import json

import pytest

from tests.tasks import p3_folder

pytestmark = pytest.mark.seqio


def _change(path, name, value):
  content = json.loads(path.read_text())
  if value is None:
    del content[name]
  else:
    content[name] = value
  path.write_text(json.dumps(content))


LINES = [
  p3_folder.line("news", None, "BASE", None, 500_000),
  p3_folder.line("big", "v1.1-x", "BASE", None, 500_001),
  p3_folder.line("gigaword", None, "BASE", None, 3_803_957),
  p3_folder.line("arc", "ARC-Easy", "GPT_EVAL", None, 2251),
  p3_folder.line("hellaswag", None, "GPT_EVAL", "BASE", 39905),
  p3_folder.line("super_glue", "copa", "SGLUE", "BASE", 400),
  p3_folder.line("super_glue", "rte", None, "BASE", None),
  p3_folder.line("wino_bias", "type1_pro", None, "BIAS_FAIRNESS", None),
]
ORDINARY = {
  "news_one": 3,
  "big_v1.1_x_one": 1,
  "big_v1.1_x_two": 2,
  "big_v1.1_x_three": 1,
  "gigaword_summarize_": 1,
  "gigaword_TLDR": 1,
  "arc_ARC_Easy_one": 2,
  "hellaswag_how_ends": 2,
  "super_glue_copa_choose": 1,
  "super_glue_rte_must_be_true": 1,
  "winogrande_debiased_Replace": 1,
}
SCORED_NAMES = [
  "news_one",
  "hellaswag_how_ends",
  "super_glue_copa_choose",
  "super_glue_rte_must_be_true",
  "winogrande_debiased_Replace",
]


def _write_mixtures(data):
  row = p3_folder.pair("alice", "red")
  for name, count in ORDINARY.items():
    p3_folder.write(data / name, p3_folder.PAIR, [row] * count)
  for name in SCORED_NAMES:
    p3_folder.write(
      data / f"{name}_score_eval",
      p3_folder.SCORED,
      [p3_folder.choice(0, 0, "a", "red")],
    )


def test_official_rates_share_half_a_million_over_templates(tmp_path, data):
  _write_mixtures(data)
  p3_folder.provider(tmp_path, LINES, train_sizes="official").register()
  base = {
    "news_one": 500_000,
    "big_v1.1_x_one": 166_666,
    "big_v1.1_x_two": 166_666,
    "big_v1.1_x_three": 166_666,
    "gigaword_TLDR": 250_000,  # the blacklisted template has the other half
  }
  gpt = {"arc_ARC_Easy_one": 2251, "hellaswag_how_ends": 39905}
  assert p3_folder.rates("p3_t0_train") == base
  assert p3_folder.rates("p3_t0p_train") == base | gpt
  superglue = {"super_glue_copa_choose": 400}
  assert p3_folder.rates("p3_t0pp_train") == base | gpt | superglue


def test_rates_are_the_rows_that_are_there_by_default(tmp_path, data):
  _write_mixtures(data)
  stats = data / "big_v1.1_x_two" / "stats.train.json"
  _change(stats, "examples", 600_000)
  p3_folder.provider(tmp_path, LINES).register()
  assert p3_folder.rates("p3_t0_train") == {
    "news_one": 3,
    "big_v1.1_x_one": 1,
    "big_v1.1_x_two": 166_666,
    "big_v1.1_x_three": 1,
    "gigaword_TLDR": 1,
  }


def test_what_a_mixture_is_trained_on_is_not_held_out_for_it(tmp_path, data):
  _write_mixtures(data)
  p3_folder.provider(tmp_path, LINES).register()
  copa, rte = "super_glue_copa_choose", "super_glue_rte_must_be_true"
  for mixture, held_out in (
    ("t0", {"hellaswag_how_ends", copa, rte}),
    ("t0p", {copa, rte}),
    ("t0pp", {rte}),
  ):
    scored = {f"{name}_score_eval" for name in held_out}
    assert p3_folder.rates(f"p3_{mixture}_eval").keys() == scored
    assert not held_out & p3_folder.rates(f"p3_{mixture}_train").keys()


def test_the_list_is_read_as_t_zero_publishes_it(tmp_path, data):
  _write_mixtures(data)
  provider = p3_folder.provider(tmp_path, LINES, train_sizes="official")
  (tmp_path / "p3" / "t0_datasets.json").unlink()
  lines = [",".join(LINES[0])]
  lines += [
    ",".join("" if x is None else str(x) for x in line.values())
    for line in LINES
  ]
  path = tmp_path / "p3" / "datasets.csv"
  path.write_text("\n".join(lines) + "\n")
  provider.register()
  assert p3_folder.rates("p3_t0_train")["big_v1.1_x_one"] == 166_666
  assert p3_folder.rates("p3_t0pp_eval").keys() == {
    "super_glue_rte_must_be_true_score_eval"
  }


def test_official_rates_need_official_sizes(tmp_path, data):
  _write_mixtures(data)
  lines = [LINES[0] | {"train_size": None}]
  with pytest.raises(ValueError, match=r"no 'train_size' of news_\*, which"):
    p3_folder.provider(tmp_path, lines, train_sizes="official").register()


@pytest.mark.parametrize(
  "content, message",
  [
    ("{}", r"t0_datasets\.json: a JSON list is needed"),
    ('[{"HF_name": "imdb"}]', r"t0_datasets\.json, entry 0 has no 'subset'"),
    (
      json.dumps([LINES[0], LINES[1] | {"train_size": "many"}]),
      r"t0_datasets\.json, entry 1: 'train_size' must be .* got 'many'",
    ),
    (
      json.dumps([LINES[0] | {"train_size": -3}]),
      r"entry 0: 'train_size' must be a number, got '-3'",
    ),
    (
      json.dumps([LINES[0] | {"HF_name": None}]),
      r"entry 0: 'HF_name' must be a string, got None",
    ),
    (
      json.dumps([LINES[0] | {"do_train": "BSE"}]),
      r"entry 0: 'do_train' must be one of BASE, GPT_EVAL, SGLUE, got 'BSE'",
    ),
    (
      json.dumps([LINES[0] | {"do_eval": ["BASE"]}]),
      r"entry 0: 'do_eval' must be a string, got \['BASE'\]",
    ),
    (
      json.dumps([LINES[0], LINES[0]]),
      r"entry 1: the data set of news_\* stands twice",
    ),
  ],
)
def test_a_broken_list_is_refused_by_entry(tmp_path, data, content, message):
  p3_folder.write(data / "a", p3_folder.PAIR, [p3_folder.pair("alice", "red")])
  provider = p3_folder.provider(tmp_path)
  (tmp_path / "p3" / "t0_datasets.json").write_text(content)
  with pytest.raises(ValueError, match=message):
    provider.register()
