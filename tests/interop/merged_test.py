"""Adapters by kernel, and merged as kernels are read."""

import dataclasses

import jax
import ml_dtypes
import numpy as np
import pytest

from hyperjax import adapters
from hyperjax.interop import logits, merged, peft, weights
from tests import adapter_example, testing

MERGED = {n: x for n, x in testing.SPECS.items() if "hf" not in x.not_exported}
MERGED["lora and ia3"] = adapters.ComposedSpec(
  (
    adapters.LoraSpec(2, projections=("key", "value", "wo")),
    adapters.Ia3Spec(2),
  )
)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
  return adapter_example.backbone(tmp_path_factory.mktemp("merged") / "t5")


def test_each_layer_of_each_named_site_has_its_lora():
  spec = adapters.LoraSpec(
    3, projections=("out", "wi_1"), sites=("decoder.self_attention",)
  )
  found = merged.by_kernel(testing.draw(spec.abstract(testing.CONFIG)))
  shapes = {n: (x.down.shape, x.up.shape) for n, [x] in found.items()}
  out, wi_1 = ((16, 3), (3, 12)), ((12, 3), (3, 20))
  assert shapes == {
    "encoder/layers_0/mlp/wi_1/kernel": wi_1,
    "encoder/layers_1/mlp/wi_1/kernel": wi_1,
    "decoder/layers_0/mlp/wi_1/kernel": wi_1,
    "decoder/layers_1/mlp/wi_1/kernel": wi_1,
    "decoder/layers_2/mlp/wi_1/kernel": wi_1,
    "decoder/layers_0/self_attention/out/kernel": out,
    "decoder/layers_1/self_attention/out/kernel": out,
    "decoder/layers_2/self_attention/out/kernel": out,
  }


def test_each_scale_of_ia3_is_that_of_a_kernels_columns_or_rows(source):
  drawn = adapter_example.adapter(source, testing.SPECS["ia3"]).arrays
  changed = merged.merged(source, drawn)
  key, wo = drawn.decoder.self_attention.ia3_key, drawn.encoder.mlp.ia3_wo
  for name, scale in (
    ("decoder/layers_2/self_attention/key/kernel", key.scale[2, 0]),
    ("encoder/layers_1/mlp/wo/kernel", wo.scale[1, 0, :, None]),
  ):
    np.testing.assert_allclose(changed.read(name), source.read(name) * scale)
  assert len(merged.by_kernel(drawn)) == 2 * 3 + 3 * 5


def test_peft_gets_no_two_kinds(source, tmp_path):
  drawn = adapter_example.adapter(source, MERGED["lora and ia3"]).arrays
  with pytest.raises(ValueError, match="one kind, and these are"):
    peft.write_folder(tmp_path, drawn, source.config, None)


@pytest.mark.parametrize("name", MERGED)
def test_a_merged_t5_answers_as_the_t5_with_its_adapter(source, name):
  """Scales of IA3 come after the LoRA of their kernel, as the T5 applies them."""
  drawn = adapter_example.adapter(source, MERGED[name]).arrays
  changed = merged.merged(source, drawn)
  tokens = testing.tokens(4, 7), testing.tokens(4, 5, seed=1)
  nothing = adapters.Adapters()
  plain, wanted = logits.of_adapters(source, tokens, nothing, drawn)
  found = logits.of_adapters(changed, tokens)[0]
  np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)
  assert np.abs(wanted - plain).max() > 0.1
  assert weights.identity(changed) != weights.identity(source)


def test_a_kernel_keeps_its_dtype_and_the_sum_is_rounded_once(tmp_path):
  source = adapter_example.backbone(tmp_path / "t5", dtype="bfloat16")
  drawn = adapter_example.adapter(source).arrays
  changed = merged.merged(source, drawn)
  name = "decoder/layers_1/self_attention/value/kernel"
  update = drawn.decoder.self_attention.value
  exact = source.read(name).astype(np.float32)
  exact += update.down[1, 0] @ update.up[1, 0]
  found = changed.read(name)
  assert found.dtype == ml_dtypes.bfloat16
  np.testing.assert_array_equal(found, exact.astype(ml_dtypes.bfloat16))
  other = "decoder/layers_1/self_attention/key/kernel"
  np.testing.assert_array_equal(changed.read(other), source.read(other))


def test_merging_reads_nothing_before_it_is_asked_for(source):
  asked = []

  def read(name):
    asked.append(name)
    return source.read(name)

  drawn = adapter_example.adapter(source).arrays
  changed = merged.merged(dataclasses.replace(source, read=read), drawn)
  assert not asked
  changed.read("encoder/layers_0/attention/query/kernel")
  assert asked == ["encoder/layers_0/attention/query/kernel"]


def test_prefixes_several_contexts_and_nothing_are_refused(source):
  prefix = testing.draw(testing.SPECS["prefix"].abstract(testing.CONFIG))
  with pytest.raises(ValueError, match=r"attention\.prefix is no change"):
    merged.by_kernel(prefix)
  two = testing.SPECS["lora"].abstract(testing.CONFIG, contexts=2)
  with pytest.raises(ValueError, match=r"one context are .* these are 2"):
    merged.merged(source, testing.draw(two))
  with pytest.raises(ValueError, match="these are 0"):
    merged.by_kernel(adapters.Adapters())


def test_lora_of_a_deeper_t5_is_refused(source):
  deeper = dataclasses.replace(testing.CONFIG, num_decoder_layers=4)
  drawn = testing.draw(adapters.LoraSpec(2).abstract(deeper))
  with pytest.raises(ValueError, match="has no decoder/layers_3/"):
    merged.merged(source, jax.tree.map(np.asarray, drawn))
