"""A T5's weights wherever they lie, and how they become parameters.

A source names its arrays as t5x does, unscanned ("encoder/layers_3/attention/
query/kernel"), and reads one array at a time, so that peak memory is what is
kept plus one stacked array. The identity of a T5 is a hash of these names and
of the values as stored, before any cast or stacking: the same weights have the
same identity in every format that keeps their dtype.
"""

import dataclasses
import hashlib
import math
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import ml_dtypes
import numpy as np
from flax import linen as nn

from hyperjax import trees
from hyperjax.memory.program import refuse_on_host
from hyperjax.models import quantizing, t5
from hyperjax.models.t5_layers import T5Config

# What decides a T5's function besides the shapes of its arrays.
_FUNCTION_FIELDS = (
  "mlp_activations",
  "logits_via_embedding",
  "scale_decoder_output",
  "relpos_max_distance",
  "relpos_per_layer",
  "layer_norm_epsilon",
  "num_heads",
  "head_dim",
  "start_id",
  "eos_ids",
  "pad_id",
)


@dataclasses.dataclass(frozen=True)
class T5Source:
  """A T5 checkpoint: its sizes, which arrays it has, how one is read."""

  path: str  # for messages, and for whoever names this T5 later
  config: T5Config
  shapes: Mapping[str, tuple[int, ...]]  # by t5x's name, unscanned
  read: Callable[[str], np.ndarray]
  # Stacked parameters that are in memory anyway; loading keeps, not copies,
  # those that have the wanted dtype.
  at_hand: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
  # Fields of `config` that the checkpoint does not tell: not compared.
  assumed: Collection[str] = ()
  # What its files say besides, for whoever writes them again: `hf_config.Files`.
  said: Any = None


@dataclasses.dataclass(frozen=True)
class Loaded:
  """Parameters on the host, and whose they are."""

  params: dict[str, Any]  # stacked, as `models.t5.T5` takes them
  identity: str  # hexadecimal SHA-256
  # By path, those that were asked for whole beside what they are in `params`.
  whole: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)


def load(
  source: T5Source, config: T5Config, whole: Collection[str] = ()
) -> Loaded:
  """Reads every array of a T5 of `config`, in `config.param_dtype`.

  Kernels that the config has in eight bits become so layer by layer.

  Args:
    source: which T5.
    config: what it becomes.
    whole: paths of what is in eight bits, and wanted as it was besides.

  Raises:
    ValueError: arrays are missing, left over, or of another shape, or the
      source's T5 computes another function; everything wrong is listed.
  """
  check_function(source, config)
  shapes = parameter_shapes(config)
  check_whole(source, shapes)
  dtype = numpy_dtype(config.param_dtype)
  eight = {x for x in shapes if quantizing.is_in(config.quantization, x)}
  wanted = eight.intersection(whole)
  refuse_on_host(
    f"the T5 {source.path} in {'int8 and ' if eight else ''}{dtype}",
    sum(
      math.prod(x)
      * ((name in eight) + dtype.itemsize * (name not in eight - wanted))
      for name, x in shapes.items()
      if name not in source.at_hand or name in eight
    ),
    "a smaller T5, or more memory is needed",
  )
  hashes: dict[str, bytes] = {}
  params, kept = {}, {}
  for path, shape in shapes.items():
    if path in eight:
      kept[path] = np.empty(shape, dtype) if path in wanted else None
      found = _quantized(source, path, shape, params, kept[path])
    else:
      params[path], found = _stacked(source, path, shape, dtype)
    hashes |= found
  kept = {path: array for path, array in kept.items() if array is not None}
  return Loaded(trees.unflatten(params), _identity(hashes), kept)


def identity(source: T5Source) -> str:
  """The identity of a T5, which `load` gives too; keeps no array in memory."""
  check_whole(source)
  check_memory(source)
  names = sorted(source.shapes, key=grouped)
  return _identity(
    {
      name: _hash(name, finite(source, name, source.read(name)))
      for name in names
    }
  )


def check_memory(source: T5Source) -> None:
  """Refuses a T5 whose largest array does not fit, where one is read at a time.

  Raises:
    OutOfMemory: as it says.
  """
  name, shape = max(source.shapes.items(), key=lambda x: math.prod(x[1]))
  refuse_on_host(
    f"{name} {list(shape)} of {source.path} in float32",
    0 if source.at_hand else 4 * math.prod(shape),
    "arrays are read one by one, so that nothing but more memory helps",
  )


def grouped(name: str) -> tuple[str, str]:
  """Sorts names so that the layers of an array follow one another.

  A source may hold them as one array.
  """
  return re.sub(r"layers_\d+", "layers", name), name


def _identity(hashes: Mapping[str, bytes]) -> str:
  joined = b"".join(hashes[name] for name in sorted(hashes))
  return hashlib.sha256(joined).hexdigest()


def from_params(
  path: str, config: T5Config, params: Mapping[str, Any]
) -> T5Source:
  """The source of a T5 whose stacked parameters are at hand."""
  at_hand = {
    name: np.asarray(array)
    for name, array in trees.flatten(dict(params)).items()
  }
  parts = {
    part: array[i] if is_stacked else array
    for name, array in at_hand.items()
    for i, (part, is_stacked) in enumerate(_unscanned(name, array.shape))
  }
  shapes = {name: part.shape for name, part in parts.items()}
  return T5Source(path, config, shapes, parts.__getitem__, at_hand)


def parameter_shapes(config: T5Config) -> dict[str, tuple[int, ...]]:
  """Shape of every array of a checkpoint of `models.t5.T5(config)`, by path."""
  config = dataclasses.replace(config, quantization=quantizing.NONE)
  tokens_11 = jax.ShapeDtypeStruct((1, 1), np.int32)
  boxed = jax.eval_shape(
    t5.T5(config).init, jax.random.key(0), tokens_11, tokens_11
  )
  params = nn.meta.unbox(boxed)["params"]
  flat = trees.flatten(params)
  return {path: leaf.shape for path, leaf in flat.items()}


def _unscanned(path: str, shape: tuple[int, ...]) -> list[tuple[str, bool]]:
  """t5x's name of each layer's part of a parameter, and whether it is stacked."""
  if "/layers/" not in path:
    return [(path, False)]
  return [
    (path.replace("/layers/", f"/layers_{i}/"), True) for i in range(shape[0])
  ]


def _stacked(
  source: T5Source, path: str, shape: tuple[int, ...], dtype: np.dtype
) -> tuple[np.ndarray, dict[str, bytes]]:
  """A parameter, and the hash of each layer's part of it as stored."""
  given = source.at_hand.get(path)
  kept = given if given is not None and given.dtype == dtype else None
  array = np.empty(shape, dtype) if kept is None else kept
  hashes = {}
  for i, (name, is_stacked) in enumerate(_unscanned(path, shape)):
    part = array[i] if is_stacked else array
    stored = part
    if kept is None:
      stored = source.read(name)
      part[...] = stored
    # Without a cast the part has the same bits, and is contiguous already.
    finite(source, name, part)
    hashes[name] = _hash(name, part if stored.dtype == dtype else stored)
  return array, hashes


def _quantized(
  source: T5Source,
  path: str,
  shape: tuple[int, ...],
  params: dict[str, Any],
  whole: np.ndarray | None,
) -> dict[str, bytes]:
  """Adds a kernel in eight bits to `params`, and what it was to `whole`.

  Returns the hash of each layer's part as stored; one at a time is in memory.
  """
  values = np.empty(shape, np.int8)
  scale = np.empty((*shape[:-2], shape[-1]), np.float32)
  hashes = {}
  for i, (name, is_stacked) in enumerate(_unscanned(path, shape)):
    at = i if is_stacked else ...
    stored = finite(source, name, source.read(name))
    hashes[name] = _hash(name, stored)
    values[at], scale[at] = quantizing.quantized(stored)
    if whole is not None:
      whole[at] = stored
  params[path], params[quantizing.scale_of(path)] = values, scale
  return hashes


def check_whole(
  source: T5Source, shapes: Mapping[str, tuple[int, ...]] | None = None
) -> None:
  """Refuses arrays that are not those of the parameters in `shapes`.

  By default, of a T5 of the source's own configuration. Reads no array.
  """
  if shapes is None:
    shapes = parameter_shapes(source.config)
  wanted = {
    name: shape[1:] if is_stacked else shape
    for path, shape in shapes.items()
    for name, is_stacked in _unscanned(path, shape)
  }
  found = source.shapes
  problems = [
    f"missing: {name}" for name in sorted(wanted.keys() - found.keys())
  ]
  problems += [
    f"extra: {name}" for name in sorted(found.keys() - wanted.keys())
  ]
  problems += [
    f"wrong shape: {name} is {found[name]}, not {wanted[name]}"
    for name in sorted(wanted.keys() & found.keys())
    if found[name] != wanted[name]
  ]
  if problems:
    raise _refusal(source.path, problems)


def check_function(source: T5Source, config: T5Config) -> None:
  """Refuses a T5 whose arrays would fit but compute something else."""

  def value(of: T5Config, name: str):
    if name == "scale_decoder_output":
      return of.is_output_scaled
    found = getattr(of, name)
    return tuple(found) if isinstance(found, list | tuple) else found

  wrong = [
    f"T5Config.{name} is {value(config, name)!r}, "
    f"the checkpoint's {value(source.config, name)!r}"
    for name in _FUNCTION_FIELDS
    if value(config, name) != value(source.config, name)
    and name not in source.assumed
  ]
  if wrong:
    raise _refusal(source.path, wrong)


def _refusal(path: str, problems: list[str]) -> ValueError:
  listed = trees.listing(problems)
  return ValueError(f"{path} is not a checkpoint of this T5:{listed}")


def finite(source: T5Source, name: str, array: np.ndarray) -> np.ndarray:
  """An array that is numbers throughout.

  Raises:
    ValueError: names it, and how many of its values are none.
  """
  if array.dtype.kind in "fV":  # V: bfloat16 and smaller ones
    wrong = array.size - int(np.count_nonzero(np.isfinite(array)))
    if wrong:
      raise ValueError(
        f"{source.path}: the parameter {name} has {wrong:,} of {array.size:,} "
        f"values that are not finite in {array.dtype}"
      )
  return array


def _hash(name: str, array: np.ndarray) -> bytes:
  digest = hashlib.sha256(f"{name} {array.dtype} {array.shape} ".encode())
  digest.update(np.ascontiguousarray(array).view(np.uint8).data)
  return digest.digest()


def numpy_dtype(name: str) -> np.dtype:
  if re.fullmatch(r"bfloat16|float8_.*", name):
    return np.dtype(getattr(ml_dtypes, name))
  return np.dtype(name)
