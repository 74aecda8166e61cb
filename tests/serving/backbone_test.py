"""A T5 of another program that answers: its tokenizer, lengths, types."""

import dataclasses
import shutil

import jax
import pytest

from hyperjax import sharding
from hyperjax.artifacts.run_record import TokenizerRef
from hyperjax.batch import Lengths
from hyperjax.data.vocabulary import SentencePiece
from hyperjax.interop import hf, hf_write
from hyperjax.serving import backbone
from hyperjax.tasks import records
from tests import adapter_example, testing
from tests.interop import t5x_files

PIECES = records.vocabulary()  # 84 ids
CONFIG = dataclasses.replace(
  testing.CONFIG, vocab_size=90, scale_decoder_output=False
)
LENGTHS = {"inputs": 9, "targets": 4}


def _t5(folder, config=CONFIG):
  """A T5 in Hugging Face's format without a tokenizer, and an adapter's info."""
  hf_write.write_folder(folder, t5x_files.source_of(config))
  return adapter_example.adapter(hf.open_folder(folder)).info


@pytest.fixture(scope="module")
def made(tmp_path_factory):
  folder = tmp_path_factory.mktemp("backbone")
  info = _t5(folder / "t5")
  named = TokenizerRef.of(PIECES.description)
  return folder / "t5", dataclasses.replace(
    info, tokenizer=named, lengths=LENGTHS
  )


@pytest.fixture
def whole(made, tmp_path):
  """The same T5 with its tokenizer beside it."""
  shutil.copytree(made[0], tmp_path / "t5")
  shutil.copy(PIECES.path, tmp_path / "t5" / "spiece.model")
  return tmp_path / "t5"


def test_a_t5_answers_with_the_tokenizer_beside_it(whole):
  found = backbone.load(str(whole), lengths=LENGTHS)
  assert (found.config, found.lengths) == (CONFIG, Lengths(9, 4))
  # The T5 has no room for T5's hundred extra ids.
  assert found.vocabulary == SentencePiece(str(whole / "spiece.model"), 0)
  assert found.named is None and found.unused is None
  # By default over all devices, each with a copy.
  assert found.layout.mesh.devices.size == jax.device_count()
  found.place()
  [leaf, *_] = jax.tree.leaves(found.params)
  assert leaf.sharding.is_fully_replicated


def test_weights_are_read_when_asked_for_and_on_the_given_mesh(whole):
  layout = sharding.MeshSpec().build(jax.devices()[:2])
  found = backbone.load(str(whole), lengths=LENGTHS, layout=layout)
  assert found.layout is layout
  (whole / "model.safetensors").unlink()
  with pytest.raises((OSError, ValueError)):
    backbone.load(str(whole), lengths=LENGTHS)
  found.place()
  assert len(jax.tree.leaves(found.params)[0].devices()) == 2


def test_extra_ids_are_there_where_the_t5_has_room_or_an_adapter_says(
  made, tmp_path
):
  roomy = dataclasses.replace(CONFIG, vocab_size=184)
  info = _t5(tmp_path / "t5", roomy)
  named = dataclasses.replace(made[1].tokenizer, extra_ids=7)
  info = dataclasses.replace(info, tokenizer=named, lengths=LENGTHS)
  options = {"vocabulary": PIECES.path}
  found = backbone.load(str(tmp_path / "t5"), lengths=LENGTHS, **options)
  assert found.vocabulary.extra_ids == 100
  found = backbone.load(str(tmp_path / "t5"), adapters=[info], **options)
  assert found.vocabulary == SentencePiece(PIECES.path, 7)
  shutil.copy(PIECES.path, tmp_path / "t5" / "spiece.model")
  found = backbone.load(str(tmp_path / "t5"), adapters=[info])
  assert found.vocabulary.path == str(tmp_path / "t5" / "spiece.model")
  assert found.vocabulary.extra_ids == 7
  # More than the T5 has room for, as only another model's has.
  many = dataclasses.replace(named, extra_ids=101)
  info = dataclasses.replace(info, tokenizer=many)
  with pytest.raises(ValueError, match=r"has 185 ids .*the T5 .* only 184: it"):
    backbone.load(str(tmp_path / "t5"), adapters=[info])


def test_a_tokenizer_larger_than_the_t5_is_another_models(tmp_path):
  _t5(tmp_path / "t5", testing.CONFIG)
  with pytest.raises(ValueError, match=r"has 84 ids .*the T5 .* only 40"):
    backbone.load(str(tmp_path / "t5"), None, PIECES.path, LENGTHS)


def test_a_given_tokenizer_goes_before_the_one_beside(whole):
  found = backbone.load(str(whole), None, PIECES.path, LENGTHS)
  assert found.vocabulary.path == PIECES.path
  with pytest.raises(ValueError, match=r"--vocabulary .*no: there is no such"):
    backbone.load(str(whole), None, str(whole / "no"), LENGTHS)


def test_without_one_beside_it_adapters_name_the_tokenizer(made):
  t5, info = made
  unnamed = dataclasses.replace(info, tokenizer=None)
  found = backbone.load(str(t5), adapters=[unnamed, info])
  assert found.vocabulary == PIECES
  with pytest.raises(ValueError, match=r"--vocabulary is needed: .* spiece"):
    backbone.load(str(t5), adapters=[unnamed])
  with pytest.raises(ValueError, match="and no adapter says which tokenizer"):
    backbone.load(str(t5), lengths=LENGTHS)
  gone = dataclasses.replace(info.tokenizer, path="/no", identity="0" * 64)
  lost = dataclasses.replace(info, tokenizer=gone)
  with pytest.raises(ValueError, match="; --vocabulary says where it is"):
    backbone.load(str(t5), adapters=[lost])


def test_lengths_are_those_asked_for_else_those_of_all_adapters(made):
  t5, info = made
  other = dataclasses.replace(info, lengths={"inputs": 9, "targets": 5})

  def lengths(*adapters, **given):
    return backbone.load(str(t5), lengths=given, adapters=adapters).lengths

  assert lengths(info) == Lengths(9, 4)
  assert lengths(info, inputs=7, targets=None) == Lengths(7, 4)
  assert lengths(info, other, targets=6) == Lengths(9, 6)
  with pytest.raises(
    ValueError, match=r"--max_length is .* targets at most; its adapters differ"
  ):
    lengths(info, other)
  silent = dataclasses.replace(info, lengths={"targets": 4})
  with pytest.raises(
    ValueError, match=r"--input_length is .* inputs at most; it is no run that"
  ):
    lengths(silent)


def test_what_a_checkpoint_of_t5x_does_not_tell_its_adapters_do(made, tmp_path):
  config = dataclasses.replace(
    CONFIG,
    mlp_activations=("silu", "linear"),
    relpos_max_distance=77,
    layer_norm_epsilon=1e-3,
    dtype="bfloat16",
    param_dtype="bfloat16",
    # Its arrays say how large it is, whatever an adapter says.
    mlp_dim=21,
  )
  info = dataclasses.replace(made[1], config=config)
  t5x_files.write_legacy(tmp_path / "checkpoint_3", t5x_files.arrays_of(CONFIG))
  found = backbone.load(str(tmp_path / "checkpoint_3"), adapters=[info])
  own = dataclasses.replace(CONFIG, scale_decoder_output=None)
  assert found.config == dataclasses.replace(
    config, mlp_dim=20, scale_decoder_output=None
  )
  found = backbone.load(
    str(tmp_path / "checkpoint_3"), None, PIECES.path, LENGTHS
  )
  assert found.config == own


def test_a_t5_has_no_backbone_elsewhere(whole):
  with pytest.raises(ValueError, match=r"/x says where .*/t5 is a T5 itself"):
    backbone.load(str(whole), "/x", lengths=LENGTHS)


def test_a_run_of_a_hypermodel_says_lengths_and_tokenizer_of_its_t5(served):
  found = backbone.load(str(served / "lora"))
  assert found.lengths.inputs == 8 and found.lengths.targets == 6
  assert found.named == found.identity
  changed = backbone.load(str(served / "lora"), lengths={"targets": 3})
  assert dataclasses.replace(found.lengths, targets=3) == changed.lengths
  assert found.vocabulary.identity == PIECES.identity
