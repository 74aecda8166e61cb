"""LoRA by kernel, and merged as kernels are read."""

import dataclasses

import jax
import ml_dtypes
import numpy as np
import pytest

from hyperjax import adapters, trees
from hyperjax.interop import merged_lora, weights
from tests import adapter_example, testing


@pytest.fixture(scope="module")
def source(tmp_path_factory):
  return adapter_example.backbone(tmp_path_factory.mktemp("lora") / "t5")


def test_each_layer_of_each_named_site_has_its_lora():
  spec = adapters.LoraSpec(
    3, projections=("out", "wi_1"), sites=("decoder.self_attention",)
  )
  found = merged_lora.by_kernel(testing.draw(spec.abstract(testing.CONFIG)))
  shapes = {n: (x.down.shape, x.up.shape) for n, x in found.items()}
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


def test_a_merged_t5_is_that_of_merge_lora(source):
  drawn = adapter_example.adapter(source, testing.SPECS["lora"]).arrays
  params = weights.load(source, source.config).params
  wanted = trees.flatten(adapters.merge_lora(params, drawn))
  merged = merged_lora.merged(source, drawn)
  found = trees.flatten(weights.load(merged, source.config).params)
  for path, array in found.items():
    np.testing.assert_allclose(array, wanted[path], rtol=1e-6, atol=1e-6)
  assert weights.identity(merged) != weights.identity(source)


def test_a_kernel_keeps_its_dtype_and_the_sum_is_rounded_once(tmp_path):
  source = adapter_example.backbone(tmp_path / "t5", dtype="bfloat16")
  drawn = adapter_example.adapter(source).arrays
  merged = merged_lora.merged(source, drawn)
  name = "decoder/layers_1/self_attention/value/kernel"
  update = drawn.decoder.self_attention.value
  exact = source.read(name).astype(np.float32)
  exact += update.down[1, 0] @ update.up[1, 0]
  found = merged.read(name)
  assert found.dtype == ml_dtypes.bfloat16
  np.testing.assert_array_equal(found, exact.astype(ml_dtypes.bfloat16))
  other = "decoder/layers_1/self_attention/key/kernel"
  np.testing.assert_array_equal(merged.read(other), source.read(other))


def test_merging_reads_nothing_before_it_is_asked_for(source):
  asked = []

  def read(name):
    asked.append(name)
    return source.read(name)

  drawn = adapter_example.adapter(source).arrays
  merged = merged_lora.merged(dataclasses.replace(source, read=read), drawn)
  assert not asked
  merged.read("encoder/layers_0/attention/query/kernel")
  assert asked == ["encoder/layers_0/attention/query/kernel"]


def test_prefixes_several_contexts_and_nothing_are_refused(source):
  prefix = testing.draw(testing.SPECS["prefix"].abstract(testing.CONFIG))
  with pytest.raises(ValueError, match=r"prefix\.key is no LoRA"):
    merged_lora.by_kernel(prefix)
  two = testing.SPECS["lora"].abstract(testing.CONFIG, contexts=2)
  with pytest.raises(ValueError, match=r"one context's LoRA .* these are 2"):
    merged_lora.merged(source, testing.draw(two))
  with pytest.raises(ValueError, match="these are 0"):
    merged_lora.by_kernel(adapters.Adapters())


def test_lora_of_a_deeper_t5_is_refused(source):
  deeper = dataclasses.replace(testing.CONFIG, num_decoder_layers=4)
  drawn = testing.draw(adapters.LoraSpec(2).abstract(deeper))
  with pytest.raises(ValueError, match="has no decoder/layers_3/"):
    merged_lora.merged(source, jax.tree.map(np.asarray, drawn))
