"""Folders of PEFT written by hand: which modules get what, and what is refused."""

import json

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors import numpy as safetensors

from hyperjax import adapters
from hyperjax.artifacts import adapter_folder
from hyperjax.interop import peft_config, peft_read, weights
from hyperjax.serving import average, export, importing
from tests import adapter_example, testing

CONFIG = testing.CONFIG
WIDTH = CONFIG.num_heads * CONFIG.head_dim
Q = "encoder.block.1.layer.0.SelfAttention.q"
V = "decoder.block.2.layer.1.EncDecAttention.v"


@pytest.fixture(scope="module")
def t5(tmp_path_factory):
  folder = tmp_path_factory.mktemp("t5") / "t5"
  return adapter_example.backbone(folder)


def _arrays(ranks, dtype=np.float32, seed=0):
  """Of modules from the T5's width to its heads, by the names of PEFT."""
  draw = np.random.default_rng(seed).standard_normal
  found = {}
  for module, rank in ranks.items():
    name = f"base_model.model.{module}"
    down, up = draw((rank, CONFIG.emb_dim)), draw((WIDTH, rank))
    found[f"{name}.lora_A.weight"] = down.astype(dtype)
    found[f"{name}.lora_B.weight"] = up.astype(dtype)
  return found


def _folder(path, arrays, **facts):
  path.mkdir(parents=True)
  facts = {"peft_type": "LORA", "r": 2, "lora_alpha": 3} | facts
  (path / "adapter_config.json").write_text(json.dumps(facts))
  safetensors.save_file(arrays, path / "adapter_model.safetensors")
  return path


def _read(t5, path):
  return peft_read.read(path, t5.config, t5.shapes)


def test_a_loras_scale_is_alpha_over_rank_inside_up(t5, tmp_path):
  arrays = _arrays({Q: 2})
  found = _read(t5, _folder(tmp_path / "p", arrays, target_modules=[Q]))
  assert found.spec == adapters.PlacedLoraSpec({"encoder.attention.query": 2})
  query = found.arrays.encoder.attention.query
  name = f"base_model.model.{Q}"
  np.testing.assert_array_equal(
    query.down[1, 0], arrays[f"{name}.lora_A.weight"].T
  )
  np.testing.assert_array_equal(
    query.up[1, 0], arrays[f"{name}.lora_B.weight"].T * np.float32(1.5)
  )
  assert not query.down[0].any() and not query.up[0].any()


@pytest.mark.parametrize(
  "facts, rank, scale",
  [
    ({"use_rslora": True, "r": 4}, 4, 1.5),
    ({"rank_pattern": {r"SelfAttention\.[qk]": 3}}, 3, 1.0),
    ({"alpha_pattern": {r"encoder\..*\.q": 10, "q": 7}}, 2, 5.0),
    ({"alpha_pattern": {"elfAttention.q": 10}}, 2, 1.5),  # no whole name
    ({"fan_in_fan_out": True, "lora_dropout": 0.1}, 2, 1.5),
  ],
  ids=["rsLoRA", "ranks", "the first alpha", "no end of a name", "idle"],
)
def test_rank_and_scale_of_a_module(facts, rank, scale):
  facts = {"peft_type": "LORA", "r": 2, "lora_alpha": 3} | facts
  settings = peft_config.read(facts, "here")
  assert settings.rank(Q) == rank
  assert settings.scale(Q) == pytest.approx(scale, rel=1e-12)


@pytest.mark.parametrize(
  "facts, wanted",
  [
    ({"target_modules": ["q"]}, "q0 q1 d0"),
    ({"target_modules": r".*encoder.*\.(q|o)"}, "q0 q1 o"),
    ({"target_modules": "all-linear"}, "q0 q1 o d0"),
    ({"target_modules": "q"}, ""),  # a text is a whole name
    ({"target_modules": ["q"], "exclude_modules": r"enc.*"}, "d0"),
    ({"target_modules": ["q"], "exclude_modules": ["SelfAttention.q"]}, ""),
    ({"target_modules": ["q"], "layers_to_transform": [1]}, "q1"),
    (
      {
        "target_modules": ["q"],
        "layers_to_transform": 0,
        "layers_pattern": ["block"],
      },
      "q0 d0",
    ),
    (
      {
        "target_modules": ["q"],
        "layers_to_transform": 0,
        "layers_pattern": "layer",
      },
      "q0 q1 d0",
    ),
    (
      {"target_modules": [Q], "layers_to_transform": [0]},
      "q1",
    ),
  ],
  ids=lambda x: str(x)[:40],
)
def test_which_modules_settings_name(facts, wanted):
  names = {
    "q0": "encoder.block.0.layer.0.SelfAttention.q",
    "q1": Q,
    "o": "encoder.block.0.layer.0.SelfAttention.o",
    "d0": "decoder.block.0.layer.0.SelfAttention.q",
    "head": "lm_head",
  }
  settings = peft_config.read({"peft_type": "LORA"} | facts, "here")
  found = [short for short, name in names.items() if settings.targets(name)]
  assert found == wanted.split()


def _without(part):
  return lambda arrays: {k: x for k, x in arrays.items() if part not in k}


def _changed(name, value):
  return lambda arrays: arrays | {name: value}


_A = f"base_model.model.{Q}.lora_A.weight"
_ONES = np.ones((2, 2), np.float32)


@pytest.mark.parametrize(
  "change, message",
  [
    (_without("lora_B"), f"{Q}: lora_B is missing"),
    (
      _changed(_A, np.full((2, CONFIG.emb_dim), np.nan, np.float32)),
      f"not finite: {_A}",
    ),
    (
      _changed(_A, np.ones((2, CONFIG.emb_dim + 1), np.float32)),
      rf"{Q}: lora_A is \[2, {CONFIG.emb_dim + 1}\], the T5 and "
      rf"adapter_config.json make it \[2, {CONFIG.emb_dim}\]",
    ),
    (
      _changed(_A, np.ones((3, CONFIG.emb_dim), np.float32)),
      rf"{Q}: lora_A is \[3, ",
    ),
    (
      _changed(_A, np.ones((2, CONFIG.emb_dim), np.int8)),
      f"of type int8, not .*: {_A}",
    ),
    (
      lambda arrays: {
        k.replace("block.1", "block.9"): x for k, x in arrays.items()
      },
      "block.9.layer.0.SelfAttention.q: the T5 of --model has no such",
    ),
    (lambda _: {}, "holds no array"),
    (
      _changed("base_model.model.lm_head.lora_A.weight", _ONES),
      "lm_head: no adapter of HyperJAX's changes this module",
    ),
    (
      _changed("base_model.model.shared.lora_embedding_A", _ONES),
      "shared.lora_embedding_A: an embedding: no adapter",
    ),
    (
      _changed(f"base_model.model.{Q}.lora_magnitude_vector", _ONES),
      "lora_magnitude_vector: of DoRA",
    ),
    (
      lambda arrays: (
        arrays
        | {
          k.replace(".weight", ".style.weight"): x
          for k, x in _arrays({V: 2}).items()
        }
      ),
      "of several adapters: None, style",
    ),
    (
      lambda arrays: arrays | _arrays({V: 2}),
      f"{V}: it has arrays, but adapter_config.json does not name it",
    ),
  ],
  ids=[
    "half of a pair",
    "not finite",
    "another width",
    "another rank",
    "another type",
    "another depth",
    "nothing",
    "head",
    "embedding",
    "DoRA's arrays",
    "two adapters",
    "more than named",
  ],
)
def test_arrays_that_are_no_adapter_of_this_t5_are_named(
  t5, tmp_path, change, message
):
  arrays = change(_arrays({Q: 2}))
  folder = _folder(tmp_path / "p", arrays, target_modules=[Q])
  with pytest.raises(ValueError, match=message) as caught:
    _read(t5, folder)
  assert str(folder) in str(caught.value)


def test_a_module_that_is_named_and_has_no_arrays_is_refused(t5, tmp_path):
  folder = _folder(tmp_path / "p", _arrays({Q: 2}), target_modules=[Q, V])
  with pytest.raises(ValueError, match=f"{V}: .* names it, but it has no arr"):
    _read(t5, folder)


@pytest.mark.parametrize(
  "facts, message",
  [
    ({"peft_type": "ADALORA"}, "peft_type is 'ADALORA'; LORA and IA3 can be"),
    ({"peft_type": None}, "peft_type is None"),
    ({"use_dora": True}, "use_dora is True: DoRA also scales"),
    ({"bias": "all"}, "bias is 'all': a T5 has no biases"),
    ({"modules_to_save": ["lm_head"]}, r"modules_to_save is \['lm_head'\]"),
    ({"use_bora": True}, "use_bora is True: what it changes is not known"),
    ({"task_type": "SEQ_CLS"}, "task_type is 'SEQ_CLS': it has a head"),
    ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights is 'pissa_n"),
    ({"init_lora_weights": "olora"}, "path_initial_model_for_weight_conver"),
    ({"rank_pattern": {"(": 3}}, r"rank_pattern has .*no regular expression"),
    ({"r": 0}, "the rank of .* must be a whole number from 1, got 0"),
    ({"lora_alpha": "8"}, "the alpha of .* must be a finite number, got '8'"),
    ({"target_modules": 3}, "target_modules must be a text or a list of"),
    ({"layers_to_transform": ["1"]}, "layers_to_transform must be whole"),
  ],
  ids=str,
)
def test_a_setting_that_cannot_be_held_is_refused_by_its_name(
  t5, tmp_path, facts, message
):
  facts = {"target_modules": [Q]} | facts
  folder = _folder(tmp_path / "p", _arrays({Q: 2}), **facts)
  with pytest.raises(ValueError, match=message) as caught:
    _read(t5, folder)
  assert str(folder / "adapter_config.json") in str(caught.value)


@pytest.mark.parametrize(
  "place",
  ["", "style"],
  ids=["named arrays", "a folder of its name"],
)
def test_an_adapter_with_a_name_is_read_as_one_without(t5, tmp_path, place):
  arrays = _arrays({Q: 2})
  named = arrays
  if not place:
    named = {
      k.replace(".weight", ".style.weight").replace("base_model.model.", ""): x
      for k, x in arrays.items()
    }
  _folder(tmp_path / "p" / place, named, target_modules=[Q])
  plain = _read(t5, _folder(tmp_path / "plain", arrays, target_modules=[Q]))
  found = _read(t5, tmp_path / "p")
  jax.tree.map(np.testing.assert_array_equal, found.arrays, plain.arrays)
  assert found.tensors.keys() == arrays.keys()


def test_a_folder_without_an_adapter_says_what_it_has(t5, tmp_path):
  with pytest.raises(ValueError, match=r"it has no adapter_config\.json"):
    _read(t5, tmp_path)
  for name in ("a", "b"):
    _folder(tmp_path / "two" / name, _arrays({Q: 2}))
  with pytest.raises(
    ValueError, match=r"holds several adapters, give one: .*a"
  ):
    _read(t5, tmp_path / "two")
  folder = _folder(tmp_path / "p", _arrays({Q: 2}))
  (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
  with pytest.raises(ValueError, match=r"adapter_model\.bin, a pickle, which"):
    _read(t5, folder)
  (folder / "adapter_config.json").write_text(
    "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 7\n"
  )
  with pytest.raises(ValueError, match=r"config\.json is a pointer of Git LFS"):
    _read(t5, folder)


def test_scales_of_ia3_go_to_what_they_come_to(t5, tmp_path):
  """q's and k's multiply; what `o` takes is a value; wi_1's factor is in wo's."""
  attention, mlp = (
    "decoder.block.1.layer.0.SelfAttention",
    "decoder.block.1.layer.2",
  )
  draw = np.random.default_rng(0).standard_normal
  sizes = {
    f"{attention}.q": (WIDTH, 1),
    f"{attention}.k": (WIDTH, 1),
    f"{attention}.o": (1, WIDTH),
    f"{mlp}.DenseReluDense.wi_1": (CONFIG.mlp_dim, 1),
  }
  scales = {k: draw(shape).astype(np.float32) for k, shape in sizes.items()}
  arrays = {f"base_model.model.{k}.ia3_l": x for k, x in scales.items()}
  folder = _folder(
    tmp_path / "p",
    arrays,
    peft_type="IA3",
    target_modules=list(scales),
    feedforward_modules=["o"],
  )
  found = _read(t5, folder).arrays
  q, k, o, wi = (x.ravel() for x in scales.values())
  site = found.decoder.self_attention
  np.testing.assert_allclose(site.ia3_key.scale[1, 0], q * k, rtol=1e-6)
  np.testing.assert_array_equal(site.ia3_value.scale[1, 0], o)
  np.testing.assert_array_equal(found.decoder.mlp.ia3_wo.scale[1, 0], wi)
  assert (site.ia3_key.scale[0] == 1).all()


@pytest.mark.parametrize(
  "name, feedforward, side",
  [("wi_0", [], "gives"), ("wo", [], "gives"), ("wi_1", ["wi_1"], "takes")],
)
def test_a_scale_of_ia3_that_comes_to_none_of_ours_is_named(
  t5, tmp_path, name, feedforward, side
):
  module = f"encoder.block.0.layer.1.DenseReluDense.{name}"
  size = CONFIG.emb_dim if name == "wo" or feedforward else CONFIG.mlp_dim
  shape = (1, size) if feedforward else (size, 1)
  folder = _folder(
    tmp_path / "p",
    {f"base_model.model.{module}.ia3_l": np.ones(shape, np.float32)},
    peft_type="IA3",
    target_modules=[module],
    feedforward_modules=feedforward,
  )
  with pytest.raises(ValueError, match=f"{module}: it scales what .* {side}"):
    _read(t5, folder)


@pytest.fixture(scope="module")
def imported(t5, tmp_path_factory):
  """One of two modules alone, of different ranks, in bfloat16."""
  folder = tmp_path_factory.mktemp("imported")
  arrays = _arrays({Q: 2, V: 3}, ml_dtypes.bfloat16)
  theirs = _folder(
    folder / "theirs", arrays, target_modules=[Q, V], rank_pattern={V: 3}
  )
  said = importing.from_peft(theirs, t5.path, folder / "own")
  return theirs, folder / "own", said


def test_an_imported_adapter_comes_out_as_it_went_in(imported, tmp_path):
  theirs, own, said = imported
  export.export(own, "peft", tmp_path / "again", verified=False)
  settings = [
    (x / "adapter_config.json").read_bytes()
    for x in (theirs, tmp_path / "again")
  ]
  assert settings[0] == settings[1]
  before, after = (
    safetensors.load_file(x / "adapter_model.safetensors")
    for x in (theirs, tmp_path / "again")
  )
  assert {k: (x.dtype, x.tobytes()) for k, x in after.items()} == {
    k: (x.dtype, x.tobytes()) for k, x in before.items()
  }
  assert (
    "adapters.PlacedLoraSpec.ranks = {'encoder.attention.query': 2," in said
  )


def test_a_mean_with_an_imported_one_is_exported_as_it_is(
  t5, imported, tmp_path
):
  """Its layers that have none stay without, and each module has its own rank."""
  _, own, _ = imported
  first = adapter_folder.read(own)
  second = adapter_example.adapter(
    t5,
    adapters.LoraSpec(2, projections=("query",), sites=("encoder.attention",)),
  )
  mean = average.average([first, second], [1, 1])
  mean.save(tmp_path / "mean")
  export.export(tmp_path / "mean", "peft", tmp_path / "out", verified=False)
  again = _read(t5, tmp_path / "out")
  ranks = {k: x.shape[0] for k, x in again.tensors.items() if "lora_A" in k}
  assert ranks == {
    "base_model.model.encoder.block.0.layer.0.SelfAttention.q.lora_A.weight": 2,
    f"base_model.model.{Q}.lora_A.weight": 4,
    f"base_model.model.{V}.lora_A.weight": 3,
  }
  assert adapters.distance(mean.arrays, again.arrays) < 1e-6


def test_its_t5_is_the_one_that_it_was_imported_for(imported, t5):
  info, _ = adapter_folder.read_info(imported[1])
  assert info.backbone.identity == weights.identity(t5)
  assert info.origin["imported"]["peft"]["lora_alpha"] == 3
