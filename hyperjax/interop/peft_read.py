"""A folder of the `peft` library as adapters of a T5.

What its arrays do, the adapter's arrays do: a LoRA's scale goes inside `up`, an
IA3's scales go to the keys, values and feed-forward inputs that they act on.
"""

import dataclasses
import pathlib
import re
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hyperjax import adapters, paths, trees
from hyperjax.data import files, lfs
from hyperjax.interop import hf, hf_arrays, peft, peft_config
from hyperjax.models.t5_layers import T5Config

PICKLE = "adapter_model.bin"

_PARTS = {
  peft_config.LORA: ("lora_A", "lora_B"),
  peft_config.IA3: ("ia3_l",),
}
_ENDS = {"lora_A": ".weight", "lora_B": ".weight"}
_SLOTS = 32  # of an Ia3Spec; their number is free, and this is the usual one
_DTYPES = ("float64", "float32", "float16", "bfloat16")
_NO_PLACE = "no adapter of HyperJAX's changes this module"
# Parts of the names of arrays that cannot be read, and why.
_UNREAD = {
  "lm_head.": f"lm_head: {_NO_PLACE}",
  "lora_embedding_": f"an embedding: {_NO_PLACE}",
  "lora_magnitude_vector": "of DoRA",
  "prompt_embeddings": "of prompt or prefix tuning",
}
# Modules of a T5 that no adapter of HyperJAX's changes.
_EMBEDDINGS = ("shared", "encoder.embed_tokens", "decoder.embed_tokens")


@dataclasses.dataclass(frozen=True)
class Read:
  """What stands in a folder."""

  folder: pathlib.Path  # where its two files lie
  facts: Mapping[str, Any]  # of adapter_config.json
  tensors: Mapping[str, np.ndarray]  # as they are there, by PEFT's names
  spec: adapters.Spec
  arrays: adapters.Adapters  # numpy, float32, [L, 1, ...]


@dataclasses.dataclass(frozen=True)
class _Module:
  """A linear module of a T5: where it stands, and its sizes."""

  place: str  # such as "encoder.attention.query"
  layer: int
  fan_in: int
  fan_out: int


def read(
  path: pathlib.Path, config: T5Config, shapes: Mapping[str, Sequence[int]]
) -> Read:
  """An adapter of the T5 that `config` and the `shapes` of its arrays describe.

  Raises:
    ValueError: it is none, is damaged, of another T5, or of a kind that cannot
      be read; the message names the setting or the arrays.
  """
  folder = _folder(path)
  lfs.check(folder / peft.CONFIG)
  facts = files.read_json(folder / peft.CONFIG)
  settings = peft_config.read(facts, str(folder / peft.CONFIG))
  arrays = _arrays(folder, settings.kind)
  modules = _modules(config, shapes)
  _check(arrays, settings, modules, folder / peft.ARRAYS)
  if settings.kind == peft_config.LORA:
    spec, nodes = _lora(arrays, settings, modules, config)
  else:
    spec, nodes = _ia3(arrays, settings, modules, config, folder / peft.CONFIG)
  tensors = {
    f"{peft.WRAPPED}{module}.{part}{_ENDS.get(part, '')}": array
    for module, own in arrays.items()
    for part, array in own.items()
  }
  return Read(folder, facts, tensors, spec, adapters.assemble(nodes))


def keep(found: Read, folder: pathlib.Path) -> None:
  """Writes the same settings and the same tensors into an empty folder."""
  shutil.copyfile(found.folder / peft.CONFIG, folder / peft.CONFIG)
  tensors = {k: np.ascontiguousarray(x) for k, x in found.tensors.items()}
  files.write_arrays(folder / peft.ARRAYS, tensors, {"format": "pt"})


def _folder(path: pathlib.Path) -> pathlib.Path:
  """Where the two files lie; PEFT puts adapters with a name one folder down."""
  if not files.is_folder(path):
    raise ValueError(f"{path}: there is no such folder")
  path = paths.fetched(path)
  if (path / peft.CONFIG).is_file():
    return path
  inside = sorted(x.parent for x in path.glob(f"*/{peft.CONFIG}"))
  if len(inside) == 1:
    return inside[0]
  if inside:
    names = ", ".join(str(x) for x in inside)
    raise ValueError(f"{path} holds several adapters, give one: {names}")
  raise ValueError(f"{path} is no adapter of PEFT: it has no {peft.CONFIG}")


def _arrays(
  folder: pathlib.Path, kind: str
) -> dict[str, dict[str, np.ndarray]]:
  """Arrays by module, then by part."""
  file = folder / peft.ARRAYS
  if not files.is_file(file) and (folder / PICKLE).exists():
    raise ValueError(
      f"{folder} holds {PICKLE}, a pickle, which is never read: loading one can "
      "run any program. Save the adapter again with PEFT's save_pretrained, "
      "which writes safetensors"
    )
  found: dict[str, dict[str, np.ndarray]] = {}
  wrong, names = [], set()
  pattern = re.compile(
    rf"(?:base_model\.model\.)*(.+)\.({'|'.join(_PARTS[kind])})"
    r"(?:\.([^.]+))??(?:\.weight)?"
  )
  with hf_arrays.naming(file), hf_arrays.open_file(file) as opened:
    for name in opened.keys():  # noqa: SIM118
      match = pattern.fullmatch(name)
      if match is None:
        why = (why for part, why in _UNREAD.items() if part in name)
        wrong.append(f"{name}: {next(why, f'no array of a {kind}')}")
        continue
      module, part, adapter = match.groups()
      names.add(adapter)
      array = opened.get_tensor(name)
      wrong += _faults(name, array)
      if part in found.setdefault(module, {}):
        wrong.append(f"twice: {name}")
      found[module][part] = array
  if len(names) > 1:
    listed = ", ".join(sorted(str(x) for x in names))
    wrong.append(f"of several adapters: {listed}")
  if wrong:
    raise ValueError(f"{file} cannot be read:{trees.listing(sorted(wrong))}")
  if not found:
    raise ValueError(f"{file} holds no array")
  return found


def _faults(name: str, array: np.ndarray) -> list[str]:
  if array.dtype.name not in _DTYPES:
    return [f"of type {array.dtype.name}, not {', '.join(_DTYPES)}: {name}"]
  if not np.isfinite(array.astype(np.float32)).all():
    return [f"not finite: {name}"]
  return []


def _modules(
  config: T5Config, shapes: Mapping[str, Sequence[int]]
) -> dict[str, _Module]:
  """Every linear module that adapters can change, by its name in transformers."""
  found = {}
  for name, hf_name in hf.array_names(config, hf.EMBEDDINGS[0]).items():
    match = re.fullmatch(r"(\w+)/layers_(\d+)/(.+)/kernel", name)
    if match and name in shapes:
      stack, layer, rest = match.groups()
      place = ".".join([stack, *rest.split("/")])
      module = hf_name.removesuffix(".weight")
      found[module] = _Module(place, int(layer), *shapes[name])
  return found


def _check(
  arrays: Mapping[str, Mapping[str, np.ndarray]],
  settings: peft_config.Settings,
  modules: Mapping[str, _Module],
  file: pathlib.Path,
) -> None:
  """Refuses arrays of other modules than the T5's and the settings', all listed."""
  wrong = []
  parts = _PARTS[settings.kind]
  for module in sorted(arrays):
    if module == peft_config.HEAD or module in _EMBEDDINGS:
      wrong.append(f"{module}: {_NO_PLACE}")
    elif module not in modules:
      wrong.append(f"{module}: the T5 of --model has no such linear module")
    else:
      lacking = [x for x in parts if x not in arrays[module]]
      wrong += [f"{module}: {x} is missing" for x in lacking]
      if not lacking:
        own = _wrong_shapes(arrays[module], settings, module, modules[module])
        wrong += own
  if settings.facts.get("target_modules") is not None:
    named = {x for x in modules if settings.targets(x)}
    wrong += [
      f"{x}: {peft.CONFIG} names it, but it has no arrays"
      for x in sorted(named - arrays.keys())
    ]
    wrong += [
      f"{x}: it has arrays, but {peft.CONFIG} does not name it"
      for x in sorted(arrays.keys() & modules.keys() - named)
    ]
  if wrong:
    raise ValueError(
      f"{file} is not an adapter of this T5, as its settings say it "
      f"is:{trees.listing(wrong)}"
    )


def _wrong_shapes(
  own: Mapping[str, np.ndarray],
  settings: peft_config.Settings,
  name: str,
  module: _Module,
) -> list[str]:
  wanted: dict[str, tuple[int, ...]]
  if settings.kind == peft_config.LORA:
    rank = settings.rank(name)
    wanted = {"lora_A": (rank, module.fan_in), "lora_B": (module.fan_out, rank)}
  elif settings.scales_input(name):
    wanted = {"ia3_l": (1, module.fan_in)}
  else:
    wanted = {"ia3_l": (module.fan_out, 1)}
  return [
    f"{name}: {part} is {list(own[part].shape)}, the T5 and {peft.CONFIG} make it "
    f"{list(shape)}"
    for part, shape in wanted.items()
    if own[part].shape != shape
  ]


def _lora(
  arrays: Mapping[str, Mapping[str, np.ndarray]],
  settings: peft_config.Settings,
  modules: Mapping[str, _Module],
  config: T5Config,
) -> tuple[adapters.Spec, dict[str, Any]]:
  ranks: dict[str, int] = {}
  layers: dict[str, set[tuple[int, int]]] = {}
  for module in arrays:
    place, rank = modules[module].place, settings.rank(module)
    ranks[place] = max(rank, ranks.get(place, 0))
    layers.setdefault(place, set()).add((modules[module].layer, rank))
  scales = {settings.scale(module) for module in arrays}
  nodes: dict[str, Any] = dict(
    adapters.nodes(adapters.PlacedLoraSpec(ranks).filled(config, 0))
  )
  is_uniform = len(scales) == 1 and all(
    layers[place] == {(i, ranks[place]) for i in range(len(node.down))}
    for place, node in nodes.items()
  )
  spec = adapters.lora_spec(ranks, min(scales) if is_uniform else None)
  for module, own in arrays.items():
    at, rank = modules[module], settings.rank(module)
    down, up = own["lora_A"], own["lora_B"]
    scale = np.float32(settings.scale(module))
    nodes[at.place].down[at.layer, 0, :, :rank] = down.astype(np.float32).T
    nodes[at.place].up[at.layer, 0, :rank] = up.astype(np.float32).T * scale
  return spec, nodes


def _ia3(
  arrays: Mapping[str, Mapping[str, np.ndarray]],
  settings: peft_config.Settings,
  modules: Mapping[str, _Module],
  config: T5Config,
  where: pathlib.Path,
) -> tuple[adapters.Spec, dict[str, Any]]:
  spec = adapters.Ia3Spec(_SLOTS)
  nodes: dict[str, Any] = dict(adapters.nodes(spec.filled(config, 1)))
  wrong = []
  for module, own in arrays.items():
    at, is_input = modules[module], settings.scales_input(module)
    place = _scaled(at.place, is_input, config)
    if place is None:
      side = "takes" if is_input else "gives"
      wrong.append(f"{module}: it scales what this module {side}")
    else:
      nodes[place].scale[at.layer, 0] *= own["ia3_l"].astype(np.float32).ravel()
  if wrong:
    raise ValueError(
      f"{where}: HyperJAX's IA3 scales keys, values and what wo takes, and what "
      f"comes to the same:{trees.listing(wrong)}"
    )
  return spec, nodes


def _scaled(place: str, is_input: bool, config: T5Config) -> str | None:
  """The place of ours whose scale comes to the same, if there is one.

  A query's scale meets the key's in their product; what `o` takes is a sum of
  values; the linear factor of a gated feed-forward is in what `wo` takes.
  """
  site, _, name = place.rpartition(".")
  if is_input:
    same = {"out": "ia3_value", "wo": "ia3_wo"}
  else:
    same = {"query": "ia3_key", "key": "ia3_key", "value": "ia3_value"}
    for i, activation in enumerate(config.mlp_activations):
      if activation == "linear":
        same[f"wi_{i}"] = "ia3_wo"
  return f"{site}.{same[name]}" if name in same else None
