"""Checkpoints of t5x, in its own format and in orbax's.

Its own ("legacy", that of the published T5s): checkpoint_<step>/ has a file
`checkpoint`, flax's msgpack of {version, optimizer: {target, state}}, whose
leaves are arrays or TensorStore specs, and a folder of zarr for each spec.
Orbax's: checkpoint_<step>/state/ has {state, target}, as a folder of zarr for
each array or as one database of them. Only `target`, the parameters, is read.
"""

import dataclasses
import logging
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from hyperjax.interop import msgpack_file, t5x_tree, weights, zarr_folders

_log = logging.getLogger(__name__)

_LEGACY = "checkpoint"
_STATE = "state"
_METADATA = "_METADATA"
_DATABASE = "manifest.ocdbt"
_PLACEHOLDER = "PLACEHOLDER://"  # orbax, of an array with its own folder
_STEP = re.compile(r"checkpoint_(\d+)")
# Where the writer had its files; they are read beside the `checkpoint` file.
_KVSTORES = ("file", "gcs", "gfile", "s3", "memory")


@dataclasses.dataclass(frozen=True)
class _InlineArray:
  """An array inside a msgpack file."""

  store: zarr_folders.Store
  file: str
  inline: msgpack_file.Inline

  @property
  def shape(self) -> tuple[int, ...]:
    return self.inline.shape

  def read(self, layer: int | None = None) -> np.ndarray:
    with self.store.open(self.file) as file:
      try:
        array = self.inline.read(file)
      except ValueError as error:
        raise ValueError(f"{self.store}/{self.file}: {error}") from error
    return array if layer is None else array[:, layer]


@dataclasses.dataclass(frozen=True)
class _Promise:
  """What a spec says of an array that lies in a folder."""

  folder: str
  spec: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def is_checkpoint(location: str | pathlib.Path) -> bool:
  """Whether a checkpoint, or a folder of some, is there."""
  return bool(_steps(zarr_folders.open_store(location)))


def open_checkpoint(
  location: str | pathlib.Path | zarr_folders.Store, **given: Any
) -> weights.T5Source:
  """The T5 of a checkpoint; arrays are read when asked for.

  Args:
    location: a checkpoint_<step> folder or the folder of several, of which the
      last is taken; a path or a URL.
    **given: `t5x_tree.OPEN_FIELDS`, what a checkpoint does not tell of its T5.

  Raises:
    ValueError: there is no checkpoint, it is not whole, or holds no T5.
  """
  root = location
  if not isinstance(root, zarr_folders.Store):
    root = zarr_folders.open_store(root)
  steps = _steps(root)
  # The file that makes a checkpoint whole is written last.
  store = next((step for step in steps if _is_whole(step)), None)
  if store is None:
    named = f": {steps[0]} is not whole" if steps else ""
    raise ValueError(f"{root} holds no checkpoint of t5x{named}")
  if store is not steps[0]:
    _log.warning("%s is not whole; %s is read", steps[0], store)
  arrays = _arrays(store)
  parts = t5x_tree.unscanned(arrays, str(store))
  shapes = {name: part.shape for name, part in parts.items()}
  config = t5x_tree.config_of(shapes, str(store), given)
  return weights.T5Source(
    str(store),
    config,
    shapes,
    lambda name: parts[name].read(),
    assumed=frozenset(t5x_tree.OPEN_FIELDS) - given.keys(),
  )


def _steps(store: zarr_folders.Store) -> list[zarr_folders.Store]:
  """A checkpoint, or those in a folder, the last first; some may not be whole."""
  if _is_whole(store):
    return [store]
  found = [match for name in store.names() if (match := _STEP.fullmatch(name))]
  found.sort(key=lambda match: int(match[1]), reverse=True)
  return [store.at(match[0]) for match in found]


def _is_whole(store: zarr_folders.Store) -> bool:
  return store.has(_LEGACY) or _is_orbax(store)


def _is_orbax(store: zarr_folders.Store) -> bool:
  return any(
    store.has(f"{_STATE}/{name}") for name in (_METADATA, _DATABASE, _LEGACY)
  )


def _arrays(store: zarr_folders.Store) -> dict[str, t5x_tree.Array]:
  """All parameters of a checkpoint, by name."""
  if store.has(_LEGACY):
    if _is_orbax(store):
      _log.warning(
        "%s has both a %s file and a %s/ folder: the file is read",
        *(store, _LEGACY, _STATE),
      )
    tree = _scanned(store, _LEGACY)
    target = _entry(tree, "optimizer", tree)
    return _opened(store, store, _entry(target, "target", None))
  state = store.at(_STATE)
  arrays = state.database() if state.has(_DATABASE) else state
  if state.has(_METADATA):
    return _opened(state, arrays, _from_metadata(state))
  if state.has(_LEGACY):
    target = _entry(_scanned(state, _LEGACY), "target", None)
    return _opened(state, arrays, target)
  target = {
    name.removeprefix("target.").replace(".", "/"): _PLACEHOLDER + name
    for name in arrays.names()
    if name.startswith("target.")
  }
  return _opened(state, arrays, target)


def _scanned(store: zarr_folders.Store, file: str) -> Any:
  with store.open(file) as opened:
    try:
      return msgpack_file.scan(opened)
    except ValueError as error:
      raise ValueError(f"{store}/{file}: {error}") from error


def _entry(tree: Any, name: str, default: Any) -> Any:
  return tree.get(name, default) if isinstance(tree, dict) else default


def _from_metadata(state: zarr_folders.Store) -> dict[str, Any]:
  """The target that orbax's description of a tree lists."""
  listed = state.read_object(_METADATA).get("tree_metadata")
  where = f"{state}/{_METADATA}"
  if not isinstance(listed, dict):
    raise ValueError(f"{where}: tree_metadata must be an object")
  target = {}
  for entry in listed.values():
    try:
      keys = [str(key["key"]) for key in entry["key_metadata"]]
    except (KeyError, TypeError) as error:
      raise ValueError(f"{where}: no key_metadata in {entry!r}") from error
    if keys and keys[0] == "target":
      target["/".join(keys[1:])] = _PLACEHOLDER + ".".join(keys)
  return target


def _opened(
  files: zarr_folders.Store, arrays: zarr_folders.Store, target: Any
) -> dict[str, t5x_tree.Array]:
  """The arrays of a target whose leaves are arrays, specs or placeholders.

  Args:
    files: holds the file that the target is from.
    arrays: holds the zarr folders.
    target: nested, or by path.
  """
  if not isinstance(target, dict) or not target:
    raise ValueError(f"{files} has no parameters ('target')")
  found: dict[str, t5x_tree.Array] = {}
  promises = {}
  for name, leaf in _leaves(target, ""):
    where = f"{files}: {name}"
    if isinstance(leaf, msgpack_file.Inline):
      if leaf.dtype not in (*zarr_folders.DTYPES, "V2"):
        raise ValueError(
          f"{where} is of type {leaf.dtype}; weights are one of "
          f"{', '.join(zarr_folders.DTYPES)}"
        )
      found[name] = _InlineArray(files, _LEGACY, leaf)
    elif isinstance(leaf, str) and leaf.startswith(_PLACEHOLDER):
      folder = leaf.removeprefix(_PLACEHOLDER)
      promises[name] = _Promise(_inside(folder, where))
    elif isinstance(leaf, dict):
      promises[name] = _promise(leaf, where)
    else:
      raise ValueError(f"{where} must be an array or a spec, got {leaf!r}")
  zarrs = arrays.zarr(promise.folder for promise in promises.values())
  for name, promise in promises.items():
    found[name] = zarrs[promise.folder]
    _check_kept(promise, zarrs[promise.folder])
  return found


def _leaves(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
  for name, value in tree.items():
    is_spec = isinstance(value, dict) and isinstance(value.get("driver"), str)
    if isinstance(value, dict) and not is_spec:
      yield from _leaves(value, f"{prefix}{name}/")
    else:
      yield prefix + name, value


def _promise(spec: Mapping[str, Any], where: str) -> _Promise:
  """What a TensorStore spec of a legacy checkpoint says, beside its file."""
  kvstore = spec.get("kvstore")
  if spec["driver"] != "zarr" or not isinstance(kvstore, dict):
    raise ValueError(
      f"{where}: a spec of driver 'zarr' with a kvstore is needed, got {spec}"
    )
  if kvstore.get("driver") not in _KVSTORES:
    raise ValueError(
      f"{where}: the kvstore's driver must be one of {', '.join(_KVSTORES)}, "
      f"got {kvstore.get('driver')!r}"
    )
  # Old versions have the path beside the kvstore.
  folder = f"{kvstore.get('path', '')}{spec.get('path', '')}"
  return _Promise(_inside(folder, where), spec)


def _inside(folder: str, where: str) -> str:
  """A folder's path, if it leads into the checkpoint."""
  path = pathlib.PurePosixPath(folder)
  if (
    path.is_absolute() or ".." in path.parts or "\\" in folder or not path.name
  ):
    raise ValueError(
      f"{where}: its path {folder!r} does not lead into the checkpoint's folder"
    )
  return str(path)


def _check_kept(promise: _Promise, found: zarr_folders.Zarr) -> None:
  """Refuses an array that is not what its spec said."""
  metadata = promise.spec.get("metadata") or {}
  said = {
    "shape": metadata.get("shape"),
    "chunks": metadata.get("chunks"),
    "dtype": promise.spec.get("dtype"),
  }
  for name, value in said.items():
    real = getattr(found, name)
    wanted = tuple(value) if isinstance(value, list) else value
    if wanted is not None and wanted != real:
      raise ValueError(
        f"{found.where}: {name} is {real}, while the {_LEGACY} file says {wanted}"
      )
