"""Means of adapters: of what they do to the backbone."""

import dataclasses

import jax
import numpy as np
import pytest

from hyperjax import adapters
from hyperjax.artifacts import adapter_folder
from hyperjax.artifacts.run_record import BackboneRef, TokenizerRef
from hyperjax.serving import average
from tests import testing


def _adapter(kind, seed, **changes):
  spec = dataclasses.replace(testing.SPECS[kind], **changes)
  info = adapter_folder.Info(
    spec=spec,
    config=testing.CONFIG,
    backbone=BackboneRef("ab" * 32, "/t5"),
    tokenizer=None,
    lengths={},
    origin={"seed": seed},
  )
  generator = np.random.default_rng(seed)
  drawn = jax.tree.map(
    lambda leaf: generator.normal(size=leaf.shape).astype(np.float32),
    spec.abstract(testing.CONFIG),
  )
  return adapter_folder.Adapter(info, drawn)


def _effects(adapter):
  """What adapters do: a LoRA's updates of kernels, a prefix as it is."""
  leaves = adapters.path_leaves(adapter.arrays)
  return {
    path.removesuffix(".down"): np.einsum(
      "lcdr,lcrf->lcdf", leaf, leaves[path.removesuffix("down") + "up"]
    )
    if path.endswith(".down")
    else leaf
    for path, leaf in leaves.items()
    if not path.endswith(".up")
  }


def test_the_mean_of_prefixes_is_that_of_keys_and_of_values():
  given = [_adapter("prefix", seed) for seed in (0, 1)]
  found = average.average(given, [3, 1])
  one, other = [adapters.path_leaves(x.arrays) for x in given]
  for path, leaf in adapters.path_leaves(found.arrays).items():
    np.testing.assert_allclose(leaf, 0.75 * one[path] + 0.25 * other[path])
  assert found.info.spec == given[0].info.spec


def test_the_mean_of_loras_is_that_of_their_updates():
  given = [_adapter("lora", seed) for seed in (0, 1, 2)]
  weights = [0.5, 0.2, 0.3]
  effects = [_effects(adapter) for adapter in given]
  found = _effects(average.average(given, weights))
  assert len(found) == 4 * 3 + 3 * 2  # projections of sites, feed-forwards
  for path, update in found.items():
    wanted = sum(w * x[path] for w, x in zip(weights, effects, strict=True))
    np.testing.assert_allclose(update, wanted, rtol=1e-4, atol=1e-4)


def test_a_mean_of_loras_has_the_ranks_of_all_and_their_scale():
  given = [_adapter("lora", seed, alpha=8.0) for seed in (0, 1, 2)]
  spec = average.average(given).info.spec
  assert (spec.rank, spec.alpha) == (6, 24.0)
  assert spec.projections == given[0].info.spec.projections


# Of memories there is none: they have no weights.
@pytest.mark.parametrize("kind", [x for x in testing.SPECS if x != "memory"])
def test_an_interpolation_ends_in_the_adapters_themselves(kind):
  """In what they do: a LoRA's other half is there, with zero in `up`."""
  first, second = _adapter(kind, 0), _adapter(kind, 1)
  for weight, adapter in ((0, first), (1, second)):
    wanted = _effects(adapter)
    found = _effects(average.interpolate(first, second, weight))
    for path, effect in found.items():
      np.testing.assert_allclose(effect, wanted[path], rtol=1e-4, atol=1e-4)


def test_a_mean_is_written_and_read_like_any_adapter(tmp_path):
  given = [_adapter("lora", seed) for seed in (0, 1)]
  found = average.average(given, [1, 3])
  found.save(tmp_path / "mean")
  read = adapter_folder.read(tmp_path / "mean")
  assert read.identity == found.identity
  assert [x["weight"] for x in read.info.origin["average"]] == [0.25, 0.75]
  assert [x["arrays_sha256"] for x in read.info.origin["average"]] == [
    adapter.identity for adapter in given
  ]


def test_a_lower_rank_keeps_the_largest_part_and_says_what_it_leaves_out():
  """Of a diagonal of 4 and 3, the 4: left out are 3 of 5."""
  spec = adapters.LoraSpec(2, sites=("encoder.attention",))
  adapter = _adapter("lora", 0, **dataclasses.asdict(spec))
  leaves = {
    path: np.zeros(leaf.shape, np.float32)
    for path, leaf in adapters.path_leaves(adapter.arrays).items()
  }
  down, up = (f"encoder.attention.query.{end}" for end in ("down", "up"))
  leaves[down][:, 0, 0, 0] = leaves[down][:, 0, 1, 1] = 1
  leaves[up][:, 0, 0, 0], leaves[up][:, 0, 1, 1] = 4, 3
  given = dataclasses.replace(
    adapter, arrays=adapter_folder.of_paths(adapter.info, leaves)
  )
  lower = dataclasses.replace(spec, rank=1)
  found, left_out = average.truncate(given, lower)
  assert left_out == pytest.approx(0.6)
  assert found.info.spec == lower
  update = _effects(found)["encoder.attention.query"]
  wanted = np.zeros_like(update)
  wanted[:, 0, 0, 0] = 4
  np.testing.assert_allclose(update, wanted, atol=1e-6)


def test_a_mean_of_one_lora_with_itself_loses_nothing_at_its_own_rank():
  adapter = _adapter("lora", 0)
  mean = average.average([adapter, adapter])
  found, left_out = average.truncate(mean, adapter.info.spec)
  assert left_out < 1e-6
  wanted = _effects(adapter)
  for path, effect in _effects(found).items():
    np.testing.assert_allclose(effect, wanted[path], rtol=1e-4, atol=1e-4)


def test_loras_of_other_ranks_and_places_have_a_mean_where_either_stands():
  """The second stands in cross-attention alone, with a rank more."""
  first = _adapter("lora", 0)
  second = _adapter(
    "lora",
    1,
    rank=first.info.spec.rank + 1,
    projections=("query",),
    sites=("decoder.encoder_decoder_attention",),
  )
  found = average.average([first, second], [3, 1])
  place = "decoder.encoder_decoder_attention.query"
  own, its = _effects(first), _effects(second)
  for name, effect in _effects(found).items():
    wanted = 0.75 * own[name] + (0.25 * its[place] if name == place else 0)
    np.testing.assert_allclose(effect, wanted, rtol=1e-4, atol=1e-4)
  ranks = dict.fromkeys(own, first.info.spec.rank)
  ranks[place] += second.info.spec.rank
  assert found.info.spec == adapters.PlacedLoraSpec(ranks)


def test_prefixes_of_other_lengths_have_no_mean():
  with pytest.raises(ValueError, match="a and b differ in their spec: Prefix"):
    average.average(
      [_adapter("prefix", 0), _adapter("prefix", 1, length=7)],
      names=["a", "b"],
    )


def _moved(adapter):
  backbone = BackboneRef("cd" * 32, "/t5")
  info = dataclasses.replace(adapter.info, backbone=backbone)
  return dataclasses.replace(adapter, info=info)


@pytest.mark.parametrize(
  "other, message",
  [
    (lambda: _adapter("prefix", 1), "a and b are of different kinds: Lora"),
    (lambda: _adapter("ia3", 1), "a and b are of different kinds: Lora"),
    (
      lambda: _moved(_adapter("lora", 1)),
      "a and b are of different backbones: abababababababab and cdcd",
    ),
  ],
  ids=["prefix", "ia3", "backbone"],
)
def test_adapters_that_differ_have_no_mean(other, message):
  with pytest.raises(ValueError, match=message):
    average.average([_adapter("lora", 0), other()], names=["a", "b"])


@pytest.mark.parametrize(
  "weights, message",
  [
    ([1], "takes one for each of 2 adapters, got 1"),
    ([0, 0], r"not all be 0, got \[0, 0\]"),
    ([1, -1], "must be a finite number from 0, got -1"),
    ([1, float("nan")], "must be a finite number from 0, got nan"),
  ],
)
def test_weights_that_make_no_mean_are_refused(weights, message):
  given = [_adapter("prefix", seed) for seed in (0, 1)]
  with pytest.raises(ValueError, match=message):
    average.average(given, weights)


def test_a_mean_takes_two_and_an_interpolation_stays_between():
  one = _adapter("prefix", 0)
  with pytest.raises(ValueError, match="at least two adapters, got 1"):
    average.average([one])
  with pytest.raises(
    ValueError, match=r"--weight must be a finite number from 0 to 1, got 1\.5"
  ):
    average.interpolate(one, one, 1.5)


def test_every_adapter_has_a_name_where_they_are_named():
  given = [_adapter("lora", seed) for seed in (0, 1)]
  with pytest.raises(ValueError, match="zip"):
    average.average(given, names=["one"])


def test_the_same_tokenizer_may_lie_elsewhere_or_be_unknown():
  """What is imported may name another copy, or none; a mean keeps one."""

  def with_tokenizer(seed, tokenizer, lengths):
    own = _adapter("lora", seed)
    info = dataclasses.replace(own.info, tokenizer=tokenizer, lengths=lengths)
    return dataclasses.replace(own, info=info)

  lengths = {"inputs": 8, "targets": 4}
  here = TokenizerRef("sentencepiece", "ab" * 32, "/here/spiece.model")
  there = dataclasses.replace(here, path="/there/spiece.model")
  unknown = with_tokenizer(0, None, {})
  given = [unknown, with_tokenizer(1, here, lengths)]
  found = average.average([*given, with_tokenizer(2, there, lengths)])
  assert found.info.tokenizer == here
  assert found.info.lengths == lengths
  other = dataclasses.replace(here, identity="cd" * 32)
  with pytest.raises(ValueError, match="a and b differ in their tokenizer: To"):
    average.average(
      [unknown, given[1], with_tokenizer(2, other, lengths)],
      names=["", "a", "b"],
    )
