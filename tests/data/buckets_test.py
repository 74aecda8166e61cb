"""Buckets: which contexts meet, what they are padded to, and that none is lost."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperjax.batch import Context, Lengths, Sizes
from hyperjax.data import bucket_choice, buckets
from hyperjax.data.bucket_choice import Limits
from hyperjax.data.buckets import Bucket, Buckets, Microbatches
from hyperjax.data.episodes import Episodes, FewShot
from hyperjax.data.pairs import Pairs
from tests.data import rows

LENGTHS = Lengths(inputs=16, targets=8, demonstrations=64)


@dataclasses.dataclass
class Listed:
  """Contexts of some sizes, again and again, whose ids tell which they are."""

  given: list[Sizes]
  lengths: Lengths
  rows: int = 2

  num_skipped = 0
  tasks = ()

  def task_of(self, index):
    raise NotImplementedError

  def sizes(self, index):
    return self.given[index % len(self.given)]

  def __getitem__(self, index):
    own, first = self.sizes(index), 1 + index
    # Only the longest of its rows is as long as its sizes say.
    inputs = [np.full(own.inputs - i, first) for i in range(self.rows)]
    targets = [np.full(own.targets - i, first) for i in range(self.rows)]
    read = np.full(own.demonstrations, first)
    if self.lengths.are_separate:
      read = [read] * own.num_demonstrations
    return Context(inputs, targets, read)


def _drawn(count, seed=0, lengths=LENGTHS):
  generator = np.random.default_rng(seed)
  least = Sizes(2, 2, 1, 1 if lengths.are_separate else 0)
  most = buckets.of_features(lengths)
  return [
    Sizes(*(int(generator.integers(a, b + 1)) for a, b in zip(least, most)))  # noqa: B905
    for _ in range(count)
  ]


def test_a_context_is_in_the_last_bucket_that_holds_it_or_fills_an_earlier_one():
  long = Bucket(2, Lengths(10, 4))
  short = Bucket(2, Lengths(4, 4))
  sizes = [Sizes(4, 1), Sizes(9, 1), Sizes(3, 4), Sizes(1, 2)]
  assert buckets.split(sizes, [long, short]) == [
    (long, [1, 0]),
    (short, [2, 3]),
  ]
  # One is over: nobody is left to fill the last.
  assert buckets.split(sizes[:3], [long, short]) == [
    (long, [1, 0]),
    (short, [2]),
  ]
  assert buckets.split(sizes[1:2], [long, short]) == [(long, [0])]
  # What has room for one, but not for its targets, is filled with another.
  found = buckets.split(
    [Sizes(9, 1), Sizes(3, 4), Sizes(2, 2)],
    [
      Bucket(2, Lengths(10, 2)),
      short,
    ],
  )
  assert [part.members for part in found] == [[0, 2], [1]]


def test_a_microbatch_has_as_many_contexts_as_its_tokens_allow():
  """A context has 1,024 tokens to read and two rows of 384: 1,792 in all."""
  limits = Limits(contexts=30, rows=2, devices=4, tokens=4000)
  assert limits.bucket(LONG, 4000) == Bucket(8, LONG)
  assert limits.bucket(LONG, 10) == Bucket(4, LONG)
  # Its demonstrations before either row: 2,816.
  joined = dataclasses.replace(limits, are_joined=True)
  assert joined.bucket(LONG, 4000) == Bucket(4, LONG)
  # The whole batch, and rows to make it what devices divide.
  assert limits.bucket(LONG, 10**6) == Bucket(32, LONG)
  apart = Lengths(10, 5, 20, 3)
  assert limits.bucket(apart, 180) == Bucket(8, apart)


_SIZES = st.builds(
  Sizes,
  st.integers(1, 16),
  st.integers(1, 8),
  st.integers(1, 64),
  st.just(0),
)
_BUCKETS = st.builds(
  Bucket,
  st.integers(1, 7),
  st.builds(Lengths, st.integers(1, 16), st.integers(1, 8), st.integers(1, 64)),
)


@given(
  st.lists(_SIZES, min_size=1, max_size=40),
  st.lists(_BUCKETS, max_size=5),
  st.integers(1, 7),
)
def test_no_context_is_lost_doubled_cut_or_too_many(sizes, others, most):
  found = buckets.split(sizes, [Bucket(most, LENGTHS), *others])
  members = [i for part in found for i in part.members]
  assert sorted(members) == list(range(len(sizes)))
  for bucket, own in found:
    assert 1 <= len(own) <= bucket.contexts
    for i in own:
      assert sizes[i].inputs <= bucket.lengths.inputs
      assert sizes[i].targets <= bucket.lengths.targets
      assert sizes[i].demonstrations <= bucket.lengths.demonstrations


@pytest.mark.parametrize("num_demonstrations", [0, 3], ids=["joined", "apart"])
def test_microbatches_hold_every_token_of_the_batch_once(num_demonstrations):
  lengths = dataclasses.replace(LENGTHS, num_demonstrations=num_demonstrations)
  source = Listed(_drawn(12, lengths=lengths), lengths)
  least = Lengths(12, 8, 48, num_demonstrations and 2)
  found = (Bucket(2, lengths), Bucket(5, least))
  made = Microbatches(source, 12, found)(12)
  assert {len(each.demonstrations) for each in made} == {2, 5}
  for name, index in (("inputs", 0), ("targets", 1)):
    field = {"inputs": "encoder_input_tokens"}.get(
      name, "decoder_target_tokens"
    )
    ids = np.concatenate([getattr(each, field).ravel() for each in made])
    for i in range(12):
      size = source.sizes(i)[index]
      assert (ids == 13 + i).sum() == size + size - 1, (name, i)
  read = np.concatenate([each.demonstrations.ravel() for each in made])
  for i in range(12):
    own = source.sizes(i)
    wanted = own.demonstrations * max(1, own.num_demonstrations)
    assert (read == 13 + i).sum() == wanted
  for each in made:
    np.testing.assert_array_equal(
      each.decoder_loss_weights, each.decoder_target_tokens != 0
    )
    # Rows stand with their context.
    own = each.demonstrations.reshape(len(each.demonstrations), -1)[:, 0]
    both = each.encoder_input_tokens[:, 0].reshape(-1, 2)
    np.testing.assert_array_equal(both, np.stack([own, own], axis=1))


def test_processes_make_parts_of_the_same_microbatches():
  source = Listed(_drawn(11), LENGTHS)
  found = (Bucket(4, LENGTHS), Bucket(6, Lengths(12, 8, 48)))
  whole = Microbatches(source, 11, found)(0)
  parts = [
    Microbatches(
      Listed(source.given, LENGTHS),
      11,
      found,
      lambda count, own=own: range(own * count // 2, (own + 1) * count // 2),
    )(0)
    for own in range(2)
  ]
  for each, *own in zip(whole, *parts, strict=True):
    for name in ("encoder_input_tokens", "decoder_target_tokens"):
      joined = np.concatenate([getattr(part, name) for part in own])
      np.testing.assert_array_equal(joined, getattr(each, name))


LONG = Lengths(inputs=256, targets=128, demonstrations=1024)


def _work(lengths):
  return lengths.read_tokens + 2.0 * (lengths.inputs + lengths.targets)


@pytest.mark.parametrize(
  "num_demonstrations, devices, tokens",
  [(0, 1, 9000), (0, 4, 2500), (4, 8, 90000)],
)
def test_there_are_few_shapes_that_devices_divide_of_no_more_tokens(
  num_demonstrations, devices, tokens
):
  lengths = dataclasses.replace(LONG, num_demonstrations=num_demonstrations)
  source = Listed(_drawn(500, 1, lengths), lengths)
  limits = Limits(64, 2, devices, tokens)
  found = bucket_choice.chosen(Buckets(), source, limits, _work)
  assert 1 < len(found) <= 12
  assert found[0].lengths == lengths
  assert len({each.lengths for each in found}) == len(found)
  works = [_work(each.lengths) for each in found]
  assert works == sorted(works, reverse=True)
  for each in found:
    own = each.lengths
    assert each.contexts % devices == 0
    held = own.demonstrations * max(1, own.num_demonstrations)
    held += 2 * (own.inputs + own.targets)
    assert each.contexts == devices or each.contexts // devices * held <= tokens


def test_lengths_are_the_datas_own():
  """Of two kinds of contexts each is padded to what it has."""
  source = Listed([Sizes(8, 8, 24), Sizes(250, 128, 900)], LONG)
  found = bucket_choice.chosen(Buckets(), source, Limits(8, 2, 1, 10**6), _work)
  used = {
    part.bucket.lengths
    for part in buckets.split([source.sizes(i) for i in range(8)], found)
  }
  assert used == {Lengths(256, 128, 904), Lengths(8, 8, 24)}


def test_lengths_that_are_given_are_the_only_ones():
  lengths = {"inputs": (40, 120, 999), "demonstrations": (480,)}
  given = Buckets(lengths, most_shapes=4)
  source = Listed(_drawn(100, lengths=LONG), LONG)
  limits = Limits(50, 2, 1, 9000)
  found = bucket_choice.chosen(given, source, limits, _work)
  other = Listed(source.given, LONG)
  assert bucket_choice.chosen(given, other, limits, _work) == found
  assert 2 < len(found) <= 4
  assert {each.lengths.inputs for each in found} <= {40, 120, 256}
  assert {each.lengths.demonstrations for each in found} <= {480, 1024}


def test_the_shortest_texts_have_buckets_too():
  lengths = Lengths(inputs=4, targets=4)
  source = Listed([Sizes(2, 2), Sizes(4, 3)], lengths, rows=1)
  found = bucket_choice.chosen(Buckets(), source, Limits(4, 1, 1, 8), _work)
  assert found[0] == Bucket(1, lengths)


def test_what_is_no_list_of_lengths_of_a_feature_is_refused():
  with pytest.raises(ValueError, match=r"Buckets.lengths has 'input'; it may"):
    Buckets({"input": (4,)})
  with pytest.raises(ValueError, match=r"Buckets.lengths\['inputs'\].*, got 4"):
    Buckets({"inputs": 4})
  with pytest.raises(ValueError, match=r"most_shapes must be .* 1 to 12"):
    Buckets(most_shapes=13)


def _sizes_of(context):
  read = context.demonstrations
  return Sizes(
    max(map(len, context.inputs)),
    max(map(len, context.targets)),
    *(
      (len(read), 0)
      if isinstance(read, np.ndarray)
      else (max(map(len, read)), len(read))
    ),
  )


@pytest.mark.parametrize("readers", [(), ("hypermodel", "backbone")], ids=str)
@pytest.mark.parametrize("num_demonstrations", [0, 4], ids=["joined", "apart"])
def test_sizes_are_those_of_the_ids(num_demonstrations, readers):
  generator = np.random.default_rng(0)
  pairs = [
    (
      generator.integers(3, 90, generator.integers(1, 12)).tolist(),
      generator.integers(3, 90, generator.integers(1, 6)).tolist(),
    )
    for _ in range(40)
  ]
  task = dataclasses.replace(
    rows.task("a", pairs), instruction=np.arange(3, 9, dtype=np.int32)
  )
  lengths = Lengths(10, 4, 40, num_demonstrations)
  few_shot = FewShot((1, 3), 2, readers)
  source = Episodes([task], few_shot, lengths)
  seen = [source.sizes(i) for i in range(60)]
  assert seen == [_sizes_of(source[i]) for i in range(60)]
  assert len(set(seen)) > 30
  alone = Pairs([task], lengths)
  for i in range(40):
    context = alone[i]
    wanted = Sizes(len(context.inputs[0]), len(context.targets[0]))
    assert alone.sizes(i) == wanted
