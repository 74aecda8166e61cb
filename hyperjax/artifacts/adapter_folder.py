"""Adapter folders: written adapters with what they were written for.

```
adapter.safetensors   each leaf by its path in `Adapters`, [L, 1, ...]
adapter.json          kind and spec, backbone, tokenizer, where it comes from
encoded.safetensors   only if asked for: what updates need (`encoded_examples`)
imported/             of an imported one: what it was in PEFT, to the bit
```

An adapter means nothing without its backbone, so the backbone's identity is in
the folder, and the arrays' hash: neither another T5 nor a damaged file passes.
"""

import contextlib
import dataclasses
import functools
import hashlib
import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

import hyperjax
from hyperjax import adapters, paths, trees
from hyperjax.artifacts import config_json, encoded_examples, typed_json
from hyperjax.artifacts.run_record import BackboneRef, TokenizerRef
from hyperjax.data import files, nearest
from hyperjax.interop import hf_arrays
from hyperjax.models.t5_layers import T5Config

FORMAT = 1
ARRAYS, INFO = "adapter.safetensors", "adapter.json"
IMPORTED = "imported"


@dataclasses.dataclass(frozen=True)
class Info:
  """What an adapter folder says besides arrays; mappings are JSON objects."""

  spec: adapters.Spec
  config: T5Config  # of the backbone
  backbone: BackboneRef
  tokenizer: TokenizerRef | None
  lengths: Mapping[str, int]  # tokens at most of each feature, as in training
  # How it was made: the hypermodel's run and step, the demonstrations' hash; or
  # the run that trained it, step, task and initial values; of a combination, the
  # hashes and weights of what it was made of; of an imported one, its settings.
  origin: Mapping[str, Any]
  # {"text", "readers"}: what says in words what to do, and which models read it,
  # of `instructions.READERS`; None without one. "ids" where the text's are others.
  instruction: Mapping[str, Any] | None = None
  # Whether it is any good, by its own examples (`serving.verdict`); None where
  # that was not asked, or the arrays are others by now.
  check: Mapping[str, Any] | None = None


@dataclasses.dataclass(frozen=True)
class Adapter:
  """Arrays of one context, and what they are."""

  info: Info
  arrays: adapters.Adapters  # numpy, [L, 1, ...]
  encoded: encoded_examples.Encoded | None = None  # kept for updates
  # Of an imported one, the folder of PEFT that the arrays were made of.
  imported: pathlib.Path | None = None

  @property
  def identity(self) -> str:
    """Hash of the arrays with their paths."""
    return _hash(adapters.path_leaves(self.arrays))

  def __repr__(self) -> str:
    """What it is, without its arrays."""
    info, t5 = self.info, self.info.backbone.identity[:16]
    read = info.origin.get("demonstrations")
    count = f", {read['count']} examples" if isinstance(read, dict) else ""
    return f"Adapter({info.spec.label}{count}, for T5 {t5})"

  def save(self, folder: str | os.PathLike, overwrite: bool = False) -> None:
    """Writes its folder, as `write`."""
    write(paths.at(folder), self, overwrite)


def write(
  folder: pathlib.Path, adapter: Adapter, overwrite: bool = False
) -> None:
  """Writes an adapter folder, which appears only once it is whole.

  Raises:
    ValueError: something is there already, other than an adapter folder that
      may be overwritten; arrays are not those that the spec describes.
  """
  write_all([(folder, adapter)], overwrite)


def write_all(
  written: Sequence[tuple[pathlib.Path, Adapter]], overwrite: bool = False
) -> None:
  """Writes adapter folders, as `write`; none appears before all are whole.

  Where a bucket or a rename fails at the end, those before it are there.
  """
  with contextlib.ExitStack() as stack:
    for folder, adapter in written:
      stack.enter_context(_made(folder, adapter, overwrite))


@contextlib.contextmanager
def _made(
  folder: pathlib.Path, adapter: Adapter, overwrite: bool
) -> Iterator[None]:
  """An adapter folder is made beside its place, which it takes in the end."""
  info = adapter.info
  leaves = {
    path: np.ascontiguousarray(leaf)
    for path, leaf in adapters.path_leaves(adapter.arrays).items()
  }
  _check(leaves, info, "adapters to be written")
  spec, backbone = config_json.tagged(info.spec), typed_json.dump(info.backbone)
  content = {
    "format": FORMAT,
    "hyperjax": hyperjax.__version__,
    "kind": spec.kind,
    "spec": typed_json.dump(spec.fields),
    "backbone": backbone | {"config": typed_json.dump(info.config)},
    "tokenizer": info.tokenizer and info.tokenizer.description,
    "lengths": info.lengths,
    "origin": info.origin,
    "instruction": info.instruction,
    "arrays_sha256": _hash(leaves),
  }
  if info.check is not None:
    content["check"] = info.check
  check = functools.partial(check_free, overwrite=overwrite)
  with files.whole_folder(folder, check, INFO) as partial:
    partial.mkdir()
    files.write_arrays(partial / ARRAYS, leaves)
    if adapter.encoded is not None:
      encoded_examples.write(partial, adapter.encoded, content["arrays_sha256"])
    if adapter.imported is not None:
      shutil.copytree(
        adapter.imported, partial / IMPORTED, copy_function=shutil.copyfile
      )
    files.write_json(partial / INFO, content)
    yield


def check_free(folder: pathlib.Path, overwrite: bool) -> None:
  """Refuses to write where something is that is not to be lost.

  Raises:
    ValueError: as it says.
  """
  if not folder.exists() and not folder.is_symlink():
    return
  if not (folder / INFO).is_file() or folder.is_symlink():
    raise ValueError(f"{folder} exists and is no adapter folder")
  if not overwrite:
    raise ValueError(
      f"{folder} exists; --overwrite replaces it (overwrite=True from Python)"
    )


def read(folder: str | os.PathLike, with_encoded: bool = False) -> Adapter:
  """An adapter folder's content; what it keeps for updates only if asked for.

  Raises:
    ValueError: it is none, of another format, or damaged: the message names
      the file and what is wrong in it.
  """
  folder = _here(folder)
  content = _content(folder)
  info = _info(folder / INFO, content)
  leaves = _read_arrays(folder / ARRAYS)
  _check(leaves, info, str(folder / ARRAYS))
  if _hash(leaves) != content.get("arrays_sha256"):
    raise ValueError(
      f"{folder / ARRAYS} is not the file that {INFO} was written with: its "
      "values hash to something else"
    )
  kept = None
  if with_encoded:
    kept = encoded_examples.read(folder, content["arrays_sha256"])
  theirs = folder / IMPORTED
  imported = theirs if files.is_folder(theirs) else None
  return Adapter(info, of_paths(info, leaves), kept, imported)


def of_paths(info: Info, leaves: Mapping[str, Any]) -> adapters.Adapters:
  """The tree of leaves by path, of the kind that `info` describes."""
  structure = jax.tree.structure(info.spec.abstract(info.config))
  return jax.tree.unflatten(structure, [leaves[path] for path in _paths(info)])


def read_info(folder: str | os.PathLike) -> tuple[Info, str]:
  """What an adapter folder says, and the hash of its arrays, unread.

  Raises:
    ValueError: as for `read`.
  """
  folder = _here(folder)
  content = _content(folder)
  return _info(folder / INFO, content), str(content.get("arrays_sha256"))


def check_backbone(info: Info, identity: str, where: str) -> None:
  """Refuses adapters of another T5 than the one whose identity is given.

  Raises:
    ValueError: as it says.
  """
  own = info.backbone
  if own.identity != identity:
    raise ValueError(
      f"{where} is an adapter of the T5 {own.identity[:16]} ({own.source}); this "
      f"one is {identity[:16]}"
    )


def check_fits(info: Info, backbone: str, tokenizer: str, where: str) -> None:
  """Refuses adapters of another T5, or made with another tokenizer.

  Raises:
    ValueError: as it says.
  """
  check_backbone(info, backbone, where)
  theirs = info.tokenizer.identity if info.tokenizer else None
  if theirs not in (None, tokenizer):
    raise ValueError(
      f"{where} was made with the tokenizer {theirs[:16]}; this model's is "
      f"{tokenizer[:16]}"
    )


def _here(location: str | os.PathLike) -> pathlib.Path:
  """An adapter folder on this machine: that of a bucket is copied."""
  folder = paths.at(location)
  if paths.is_bucket(folder):
    _check_there(folder)
  own = (f"{IMPORTED}/",)
  return paths.fetched(folder, lambda x: "/" not in x or x.startswith(own))


def _check_there(folder: pathlib.Path) -> None:
  """Refuses what is no adapter folder."""
  if not files.is_folder(folder):
    hint = nearest.folder(folder, INFO)
    raise ValueError(f"{folder}: there is no such adapter folder{hint}")
  if not (folder / INFO).is_file():
    hint = ""
    if (folder / "checkpoints").is_dir():
      hint = (
        "; of a run that trained adapters `hyperjax adapter save` makes one"
      )
    raise ValueError(f"{folder} is no adapter folder: it has no {INFO}{hint}")


def _content(folder: pathlib.Path) -> dict[str, Any]:
  _check_there(folder)
  content = files.read_json(folder / INFO)
  if content.get("format") != FORMAT:
    raise ValueError(
      f"{folder / INFO} has format {content.get('format')!r}, this version "
      f"of HyperJAX reads {FORMAT}"
    )
  return content


def _info(path: pathlib.Path, content: Mapping[str, Any]) -> Info:
  where = str(path)
  kind = files.text_field(content, "kind", where)
  spec = {"kind": kind, **_object(content, "spec", where)}
  backbone = dict(_object(content, "backbone", where))
  config = files.field(backbone, "config", f"{where}: backbone")
  del backbone["config"]
  tokenizer = files.field(content, "tokenizer", where)
  if content.get("instruction") is not None:
    _object(content, "instruction", where)
  if content.get("check") is not None:
    _object(content, "check", where)
  info = Info(
    spec=config_json.spec(spec, where, "spec"),
    config=typed_json.read(T5Config, config, where, "backbone.config"),
    backbone=typed_json.read(BackboneRef, backbone, where, "backbone"),
    tokenizer=tokenizer
    and typed_json.read(TokenizerRef, tokenizer, where, "tokenizer"),
    lengths=_object(content, "lengths", where),
    origin=_object(content, "origin", where),
    instruction=content.get("instruction"),
    check=content.get("check"),
  )
  try:
    info.spec.leaves(info.config)
  except (
    ValueError
  ) as error:  # a spec for another T5 than the one that is named
    raise ValueError(f"{where}: {error}") from error
  return info


def _object(content: Any, name: str, where: str) -> Mapping[str, Any]:
  found = files.field(content, name, where)
  if not isinstance(found, Mapping):
    raise ValueError(f"{where}: {name} must be a JSON object, got {found!r}")
  return found


def _paths(info: Info) -> dict[str, Any]:
  """The arrays that the spec describes, by path."""
  return adapters.path_leaves(info.spec.abstract(info.config))


def _read_arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
  with hf_arrays.naming(path), hf_arrays.open_file(path) as file:
    return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def _check(leaves: Mapping[str, np.ndarray], info: Info, where: str) -> None:
  """Refuses arrays that are not those that the spec describes; all are listed."""
  wanted = _paths(info)
  wrong = [f"missing: {path}" for path in sorted(wanted.keys() - leaves.keys())]
  wrong += [f"extra: {path}" for path in sorted(leaves.keys() - wanted.keys())]
  for path in sorted(wanted.keys() & leaves.keys()):
    found = leaves[path]
    if found.shape != wanted[path].shape:
      wrong.append(
        f"wrong shape: {path} is {found.shape}, not {wanted[path].shape}"
      )
    elif found.dtype.name not in ("float32", "bfloat16", "float16"):
      wrong.append(f"wrong dtype: {path} is {found.dtype}")
    elif not np.isfinite(found.astype(np.float32)).all():
      wrong.append(f"not finite: {path}")
  if wrong:
    raise ValueError(
      f"{where}: not the arrays of {info.spec}:{trees.listing(wrong)}"
    )


def _hash(leaves: Mapping[str, Any]) -> str:
  digest = hashlib.sha256()
  for path in sorted(leaves):
    array = np.ascontiguousarray(leaves[path])
    digest.update(f"{path} {array.dtype} {array.shape} ".encode())
    digest.update(array.view(np.uint8).data)
  return digest.hexdigest()
