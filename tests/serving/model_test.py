"""Adapters and answers from Python: what evaluation makes, and nothing else."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

from hyperjax import adapters, serving, sharding
from hyperjax.artifacts import adapter_folder
from hyperjax.batch import assemble
from hyperjax.data import instructions, sources
from hyperjax.models import decoding, t5
from hyperjax.serving import answering_t5, backbone
from tests import served_example, testing

KINDS = list(served_example.SPECS)
ASKED = served_example.questions()
# Of the same rule with other examples, too: adapters of one kind and run.
GIVEN = [
  served_example.pairs(7),
  served_example.pairs(300),
  served_example.pairs(7, 2),
]


@pytest.fixture(scope="module", params=KINDS)
def model(served, request):
  return serving.load(str(served / request.param))


@pytest.fixture(scope="module")
def written(model):
  return [model.adapt(pairs) for pairs in GIVEN]


def test_examples_become_the_ids_of_training(served, model):
  """The episode of the stored tasks that has the same rows."""
  tasks = served_example._tasks(served / "tokens")
  lengths = served_example.LENGTHS
  source = sources.FewShotEpisodes(tasks, lengths, (3, 3), 2).open(0)
  for index in range(6):
    episode = source.episode(index)
    rule = served_example.RULES[episode.task]
    rows = served_example.rows(rule)
    chosen = [rows[i] for i in episode.demonstrations]
    fitted = model.fit([(row["inputs"], row["targets"]) for row in chosen])
    np.testing.assert_array_equal(fitted.tokens, source[index].demonstrations)


def test_an_adapter_is_what_the_trained_hypermodel_writes(model, written):
  fitted = model.fit(GIVEN[0])
  tokens = np.zeros((1, 36), np.int32)
  tokens[0, : len(fitted.tokens)] = fitted.tokens
  alone = jax.jit(model.run.problem.write)(model.hypermodel.params, tokens)
  wanted = adapters.path_leaves(alone)
  found = adapters.path_leaves(written[0].arrays)
  assert found.keys() == wanted.keys()
  for path, leaf in found.items():
    np.testing.assert_allclose(leaf, wanted[path], rtol=1e-4, atol=1e-5)


def test_the_same_examples_write_the_same_bytes(served, model, written):
  again = serving.load(str(model.run.folder)).adapt(GIVEN[0])
  assert again.identity == written[0].identity
  assert again.info == written[0].info
  assert len({adapter.identity for adapter in written}) == 3


def test_adapters_written_together_are_those_written_alone(model, written):
  """Three in one pass, padded to four contexts."""
  together = model.write([model.fit(pairs) for pairs in GIVEN])
  assert [x.info for x in together] == [x.info for x in written]
  for adapter, alone in zip(together, written, strict=True):
    wanted = adapters.path_leaves(alone.arrays)
    for path, leaf in adapters.path_leaves(adapter.arrays).items():
      np.testing.assert_allclose(leaf, wanted[path], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", served_example.KINDS)
def test_answers_are_those_of_the_evaluation(served, kind):
  """With adapters of the same examples, and with none."""
  served_example.evaluate(served, kind)
  path = served / kind / "inference_eval" / "rules-predictions.jsonl"
  answers = [json.loads(line) for line in path.read_text().splitlines()]
  assert len(answers) == 20
  model = serving.load(str(served / kind))
  for rule in served_example.RULES:
    own = [x for x in answers if x["task"].endswith(f"{rule:03}")]
    shown = own[0]["demonstrations"]
    assert len(shown) == 3
    adapter = model.adapt([tuple(pair) for pair in shown])
    asked = [x["input"] for x in own]
    for control, given in (("right", adapter), ("none", None)):
      wanted = [x["predictions"][control] for x in own]
      assert model.predict(asked, given) == wanted, control


DECODERS = {
  "greedy": decoding.Greedy,
  "beam": decoding.Beam(3),
  "sampled": decoding.Sampling(1.0),
}


@pytest.mark.parametrize("decoder", DECODERS.values(), ids=DECODERS)
def test_a_mixed_batch_answers_as_one_input_at_a_time_does(
  model, written, decoder
):
  own = [written[i % 3] for i in range(len(ASKED))]
  mixed = model.predict(ASKED, own, decoder, batch_size=4, seed=5)
  options = answering_t5.Options(decoder, batch_size=1, seed=5)
  alone = [
    model.answer([text], [adapter], options, number).texts[0]
    for number, (text, adapter) in enumerate(zip(ASKED, own, strict=True))
  ]
  assert mixed == alone
  # Adapters and inputs both count, or the above would say nothing.
  others = model.predict(ASKED, written[1], decoder, batch_size=4, seed=5)
  assert others != mixed and len(set(mixed)) > 1


def test_what_an_input_is_padded_to_changes_no_answer(model, written):
  """Inputs of up to 8 tokens, padded to 8 here, and among longer ones to 64."""
  wide = answering_t5.AnsweringT5(
    backbone.load(str(model.run.folder), lengths={"inputs": 64})
  )
  long = " ".join([ASKED[0]] * 12)
  for adapter in [*written, None]:
    plain = model.predict(ASKED[:4], adapter)
    assert wide.predict([*ASKED[:4], long], adapter)[:4] == plain


def test_a_long_input_is_cut_as_in_training_and_counted(model):
  long = " ".join([ASKED[0]] * 3)
  cut = model.answer([long, ASKED[1]], [None])
  assert cut.cut == [0]
  # Seven tokens and the end: the record, and three more words.
  words = " ".join(long.split()[:7])
  whole = model.answer([words, ASKED[1]], [None])
  assert (whole.texts, whole.cut) == (cut.texts, [])


def test_an_output_has_the_log_likelihood_of_its_tokens(model, written):
  """By hand, one forward pass for each, whatever is scored beside it."""
  outputs = [["paris", "london then city rome"], [], ["one"]]
  ids = [[model.encode(text) for text in own] for own in outputs]
  found = model.score(ASKED[:3], written[:1], ids)
  assert [len(own) for own in found] == [2, 0, 1]
  for asked, own, scores in zip(ASKED, ids, found, strict=False):
    for tokens, score in zip(own, scores, strict=True):
      logits = t5.T5(served_example.CONFIG).apply(
        {"params": model.backbone.params},
        np.asarray([model.encode(asked)]),
        np.asarray([[0, *tokens[:-1]]]),
        written[0].arrays,
      )
      log_probs = jax.nn.log_softmax(logits[0])
      by_hand = sum(log_probs[i, x] for i, x in enumerate(tokens))
      np.testing.assert_allclose(score, by_hand, rtol=1e-4)


def test_adapters_of_different_kinds_and_none_answer_in_one_batch(
  served, model, written
):
  """Each row as if it were alone."""
  other_kind = next(k for k in KINDS if k != model.run.folder.name)
  other = serving.load(str(served / other_kind)).adapt(GIVEN[0])
  own = [written[0], None, other, written[1]]
  together = model.answer(ASKED[:4], own)
  alone = [
    model.answer([asked], [adapter])
    for asked, adapter in zip(ASKED[:4], own, strict=True)
  ]
  assert together.texts == [answers.texts[0] for answers in alone]
  outputs = [[model.encode("paris")]] * 4
  np.testing.assert_allclose(
    model.score(ASKED[:4], own, outputs),
    [
      model.score([asked], [adapter], outputs[:1])[0]
      for asked, adapter in zip(ASKED[:4], own, strict=True)
    ],
    rtol=1e-4,
  )


def test_adapters_of_another_t5_are_refused(model, written):
  info = written[0].info
  moved = dataclasses.replace(
    info, backbone=dataclasses.replace(info.backbone, identity="0" * 64)
  )
  stranger = dataclasses.replace(written[0], info=moved)
  for own in ([written[0], stranger], [stranger]):
    with pytest.raises(ValueError, match="adapter of the T5 0000000000000000"):
      model.predict(ASKED[: len(own)], own)


def test_examples_beyond_the_room_are_dropped_whole_and_named(model):
  """36 tokens: a pair of rule 7 takes 4 + 1 + 4 + 1; too long a one, more."""
  pairs = served_example.pairs(7, 5)
  pairs[1] = (pairs[1][0] * 10, pairs[1][1])
  fitted = model.fit(pairs)
  assert [example.input for example in fitted.kept] == [
    pairs[i][0] for i in (0, 2, 3)
  ]
  assert [x.input for x, _, _ in fitted.dropped] == [pairs[1][0], pairs[4][0]]
  assert [left for _, _, left in fitted.dropped] == [26, 6]
  with pytest.raises(ValueError, match="none of 1 examples fits: the shortest"):
    model.fit(pairs[1:2])
  with pytest.raises(ValueError, match="needs at least one example"):
    model.fit([])


@pytest.mark.slow
def test_a_run_is_served_wherever_it_is_moved(served, tmp_path):
  """Its tokenizer travels with it; the backbone is named."""
  before = serving.load(str(served / "lora")).adapt(GIVEN[0])
  shutil.copytree(served / "lora", tmp_path / "run")
  shutil.copytree(served / "backbone", tmp_path / "t5")
  moved = serving.load(str(tmp_path / "run"), str(tmp_path / "t5"))
  adapter = moved.adapt(GIVEN[0])
  assert adapter.identity == before.identity
  assert adapter.info.backbone.source == str(tmp_path / "t5")
  path = adapter.info.tokenizer.path
  assert path.startswith(str(tmp_path / "run" / "vocabulary"))
  plain = serving.load(str(served / "lora")).predict(ASKED, before)
  assert moved.predict(ASKED, adapter) == plain


@pytest.mark.slow
def test_a_t5_trained_jointly_is_the_backbone_of_its_adapters(served, tmp_path):
  served_example.train(
    tmp_path / "run",
    served / "tokens",
    "prefix",
    served / "backbone",
    train_backbone=True,
  )
  model = serving.load(str(tmp_path / "run"))
  adapter = model.adapt(GIVEN[0])
  frozen = serving.load(str(served / "prefix"))
  assert adapter.info.backbone.identity != frozen.backbone.identity
  assert adapter.info.backbone.source == str(tmp_path / "run")
  assert len(model.predict(ASKED, adapter)) == len(ASKED)
  with pytest.raises(ValueError, match="the given adapter is an adapter of"):
    frozen.predict(ASKED, adapter)


@pytest.mark.slow
def test_an_instruction_is_read_as_in_training(served, tmp_path):
  """By the hypermodel before the examples, by the backbone before inputs."""
  readers = (instructions.HYPERMODEL, instructions.BACKBONE)
  served_example.train(
    tmp_path / "run", served / "tokens", "lora", served / "backbone", readers
  )
  tasks = served_example._tasks(served / "tokens")
  source = sources.FewShotEpisodes(
    tasks, served_example.LENGTHS, (2, 2), 1, instruction_readers=readers
  ).open(0)
  model = serving.load(str(tmp_path / "run"))
  episode = source.episode(0)
  rows = served_example.rows(served_example.RULES[episode.task])
  chosen = [rows[i] for i in episode.demonstrations]
  pairs = [(row["inputs"], row["targets"]) for row in chosen]
  text = served_example.INSTRUCTION
  fitted = model.fit(pairs, text)
  np.testing.assert_array_equal(fitted.tokens, source[0].demonstrations)
  adapter = model.adapt(pairs, text)
  adapter.save(tmp_path / "a")
  adapter = adapter_folder.read(tmp_path / "a")
  target = rows[episode.targets[0]]["inputs"]
  tokens, _ = model._tokens([target], [adapter], 1)
  padded = assemble([source[0]], source.lengths).encoder_input_tokens
  np.testing.assert_array_equal(tokens, padded)
  assert model.adapt([], text).identity != adapter.identity
  plain = serving.load(str(served / "lora"))
  with pytest.raises(ValueError, match="was trained without any"):
    plain.fit(pairs, text)


def test_each_shape_is_compiled_once_in_the_life_of_a_model(served):
  model = serving.load(str(served / "lora"))
  one, other = [model.adapt(pairs) for pairs in GIVEN[:2]]
  with testing.compilations() as first:
    model.predict(ASKED[:1], one)
  assert first
  with testing.compilations() as later:
    for call in range(200):
      adapter = other if call % 2 else one
      model.predict([ASKED[call % len(ASKED)]], adapter, seed=call)
    model.adapt(GIVEN[2])
  assert not later
  # Another length, other rows, another decoder: one program for each.
  decode = model._predictor._decode
  for options in (
    {"max_length": 3},
    {"decoder": decoding.Beam(2)},
    {"decoder": decoding.Sampling(0.7)},
  ):
    before = decode.num_compiled
    for seed in (1, 2):
      model.predict(ASKED[:1], one, seed=seed, **options)
    assert decode.num_compiled == before + 1
  rows = 2 * jax.device_count()
  with testing.compilations() as wider:
    model.predict(ASKED[:1] * rows, one)
  assert len(wider) == 1
  with testing.compilations() as again:
    model.predict(ASKED[:1] * (rows - 1), other)
  assert not again


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(8, 1), (2, 2)], ids=str)
def test_a_mesh_answers_as_one_device_does(served, kind, shape):
  """Adapters, answers of one and of many of them, scores and divergence."""
  count = shape[0] * shape[1]
  many = sharding.MeshSpec({"tensor": shape[1]}).build(jax.devices()[:count])
  single = sharding.MeshSpec().build(jax.devices()[:1])
  found = []
  for layout in (single, many):
    model = serving.load(str(served / kind), layout=layout)
    written = model.write([model.fit(pairs) for pairs in GIVEN])
    outputs = [[model.encode("paris"), model.encode("one two")]] * 3
    own = [written[i % 3] for i in range(len(ASKED))]
    found.append(
      (
        [adapters.path_leaves(adapter.arrays) for adapter in written],
        model.predict(ASKED, written[0]),
        model.predict(ASKED, own, batch_size=4),
        model.predict(ASKED, own, decoding.Sampling(1.0), seed=3),
        model.score(ASKED[:3], written, outputs),
        model.divergence(ASKED[:3], *written[:2], [x[0] for x in outputs]),
      )
    )
    devices = set(layout.mesh.devices.flat)
    for leaf in jax.tree.leaves(model.backbone.params):
      assert leaf.sharding.device_set == devices
  (arrays, *texts, scores, divergence), others = found[0], found[1]
  assert list(others[1:4]) == texts
  np.testing.assert_allclose(others[4], scores, rtol=1e-4)
  np.testing.assert_allclose(others[5], divergence, rtol=1e-2)
  for one, other in zip(arrays, others[0], strict=True):
    for path, leaf in one.items():
      np.testing.assert_allclose(other[path], leaf, rtol=1e-4, atol=1e-5)


def test_a_t5_in_eight_bits_answers_under_adapters_of_any_precision(
  served, caplog
):
  """It is the same T5 by its identity; that it was another's is told once."""
  layout = sharding.MeshSpec().build(jax.devices()[:1])
  run = str(served / "lora")
  whole, eight = (
    serving.load(run, layout=layout, quantization=x) for x in (None, "int8")
  )
  adapter = whole.adapt(GIVEN[0])
  again = eight.adapt(GIVEN[0])
  assert again.identity == adapter.identity  # its hypermodel is a copy
  assert again.info.backbone == adapter.info.backbone
  assert again.info.config.quantization == "int8"
  with caplog.at_level("WARNING"):
    for _ in range(2):
      eight.predict(ASKED[:2], adapter)
    eight.predict(ASKED[:2], again)
  [said] = [x.message for x in caplog.records if "quantization" in x.message]
  assert said == (
    "the given adapter was made for this T5 with quantization 'none'; it has "
    "'int8' here"
  )
  kernels = [
    model.backbone.params["encoder"]["layers"]["mlp"]["wi_0"]["kernel"]
    for model in (whole, eight)
  ]
  assert [str(x.dtype) for x in kernels] == ["float32", "int8"]
