"""Adapters by name: in a folder, the last used of them in memory, and drafts.

A name is that of an adapter folder in the one folder, and of nothing outside it. What
is on disk counts: an adapter that is replaced or removed there is so here, too. Drafts,
which nobody has asked to keep, are in memory alone, and the oldest goes first.
"""

import collections
import contextlib
import dataclasses
import logging
import os
import pathlib
import re
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from hyperjax.artifacts import adapter_folder
from hyperjax.artifacts.adapter_folder import Adapter
from hyperjax.server import refusals
from hyperjax.server.programs import Held
from hyperjax.server.refusals import Refusal

_log = logging.getLogger(__name__)
DRAFT = "draft-"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_RULE = "1 to 100 letters, digits, '.', '_' and '-' that begins with a letter or digit"
_DRAFTS = 64
_DELETED = ".deleted"
# As `delete` names what it is about to remove.
_HIDDEN = re.compile(rf"\.{_NAME.pattern}\.[a-z0-9_]{{8}}{re.escape(_DELETED)}")


@dataclasses.dataclass(frozen=True)
class Stored:
  """An adapter in memory."""

  held: Held
  created: int  # seconds since 1970
  stamp: tuple[int, ...]  # of its file, by which a change is noticed
  facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class AdapterStore:
  """Any thread may use it."""

  def __init__(
    self,
    folder: pathlib.Path,
    prepare: Callable[[Adapter, str], Held],
    most_in_memory: int,
    most_on_disk: int,
    t5_name: str,
  ):
    """Describes a store; the folder is made if it is not there.

    What was being removed when a server was killed is removed here.

    Args:
      folder: of adapter folders.
      prepare: refuses, by ValueError, what does not fit the model.
      most_in_memory: adapters; more are read again when they are asked.
      most_on_disk: adapters; no more are written.
      t5_name: which no adapter may have.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _remove_deleted(folder)
    self.folder, self._prepare = folder, prepare
    self._most, self._most_on_disk = most_in_memory, most_on_disk
    self._t5_name = t5_name
    self._kept: collections.OrderedDict[str, Stored] = collections.OrderedDict()
    self._drafts: collections.OrderedDict[str, Stored] = (
      collections.OrderedDict()
    )
    self._lock = threading.RLock()
    self._writing = threading.Lock()
    self.num_read = 0  # from disk, since the start

  def check_name(self, name: Any, param: str = "model") -> str:
    """Refuses what can be no adapter's name, so that none leaves the folder."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
      raise Refusal(
        400,
        f"{param} must be a name of {_RULE}; got {name!r:.120}",
        param,
        "bad_name",
      )
    return name

  def names(self) -> dict[str, int]:
    """Adapters of the folder, and when each was written, by name.

    Raises:
      Refusal: the folder cannot be read.
    """
    found = {}
    for name in self._entries():
      if stamp := self._stamp(name):
        found[name] = stamp[0] // 10**9
    return dict(sorted(found.items()))

  def passed_over(self) -> dict[str, str]:
    """What lies in the folder as adapters do and cannot be asked, and why.

    Raises:
      Refusal: the folder cannot be read.
    """
    found = {}
    for name in self._entries():
      fault = self._fault(name)
      info = os.path.join(self.folder, name, adapter_folder.INFO)
      if (
        fault is not None and not name.startswith(".") and os.path.isfile(info)
      ):
        found[name] = fault
    return dict(sorted(found.items()))

  def at_hand(self, name: str) -> Stored | None:
    """What is in memory and still the folder's; quick."""
    with self._lock:
      if name.startswith(DRAFT):
        return self._drafts.get(name)
      found = self._kept.get(name)
      if found is None:
        return None
      if found.stamp != self._stamp(name):
        del self._kept[name]
        return None
      self._kept.move_to_end(name)
      return found

  def get(self, name: str) -> Stored:
    """An adapter, read if need be.

    Raises:
      Refusal: there is none, it is broken, or of another T5.
    """
    found = self.at_hand(self.check_name(name))
    if found is not None:
      return found
    stamp = None if name.startswith(DRAFT) else self._stamp(name)
    if stamp is None:
      raise self._absent(name)
    try:
      with self._on_disk(name):
        adapter = adapter_folder.read(self.folder / name)
      held = self._prepare(adapter, f"the adapter {name!r}")
    except (ValueError, Refusal) as error:
      if self._stamp(name) is None:
        raise self._absent(name) from error  # removed meanwhile
      if isinstance(error, Refusal):
        raise
      raise Refusal(
        409,
        f"the adapter {name!r} cannot be used: {error}",
        "model",
        "unusable",
      ) from error
    stored = Stored(held, stamp[0] // 10**9, stamp)
    with self._lock:
      self.num_read += 1
      self._remember(name, stored)
    return stored

  def draft(self, held: Held, facts: Mapping[str, Any]) -> str:
    """Keeps an adapter in memory for a while; its name."""
    name = DRAFT + secrets.token_hex(8)
    with self._lock:
      self._drafts[name] = Stored(held, int(time.time()), (), facts)
      while len(self._drafts) > _DRAFTS:
        self._drafts.popitem(last=False)
    return name

  def check_free(self, name: str, overwrite: bool, param: str = "name") -> str:
    """Refuses a name under which nothing may be kept.

    Raises:
      Refusal: as it says.
    """
    self.check_name(name, param)
    if name == self._t5_name or name.startswith(DRAFT):
      raise Refusal(
        400,
        f"{param} {name!r} is not for adapters that are kept: {self._t5_name!r} "
        f"is the T5, and {DRAFT!r} begins the names of drafts",
        param,
        "bad_name",
      )
    if not overwrite and os.path.lexists(self.folder / name):
      raise Refusal(
        409,
        f"there is an adapter {name!r} already; overwrite: true replaces it",
        param,
        "name_taken",
      )
    return name

  def keep(
    self,
    name: str,
    held: Held,
    facts: Mapping[str, Any],
    overwrite: bool = False,
  ) -> Stored:
    """Writes an adapter into the folder.

    Raises:
      Refusal: the name is taken, the folder is full, or cannot be written.
    """
    with self._writing:
      self.check_free(name, overwrite)
      if self._stamp(name) is None and len(self.names()) >= self._most_on_disk:
        raise Refusal(
          507,
          f"the folder holds {self._most_on_disk} adapters, and no more may be "
          "kept: delete some",
          code="folder_full",
        )
      try:
        with self._on_disk(name):
          held.adapter.save(self.folder / name, overwrite)
      except ValueError as error:
        raise Refusal(409, str(error), "name", "name_taken") from error
      stamp = self._stamp(name) or (0,)
      stored = Stored(held, stamp[0] // 10**9, stamp, facts)
      with self._lock:
        self._remember(name, stored)
      return stored

  def forget(self, draft: str) -> None:
    """Drops a draft, if it is still there."""
    with self._lock:
      self._drafts.pop(draft, None)

  def delete(self, name: str) -> None:
    """Removes an adapter, from the folder too.

    Raises:
      Refusal: there is none.
    """
    self.check_name(name)
    with self._lock:
      self._kept.pop(name, None)
      if self._drafts.pop(name, None) is not None:
        return
    with self._writing:
      if self._stamp(name) is None:
        raise self._absent(name)
      # Gone at once, whatever happens while its files are removed.
      with self._on_disk(name):
        hidden = tempfile.mkdtemp(_DELETED, f".{name}.", self.folder)
        os.rename(self.folder / name, os.path.join(hidden, name))
    shutil.rmtree(hidden, ignore_errors=True)

  def _entries(self) -> list[str]:
    with self._on_disk():
      return os.listdir(self.folder)

  def _fault(self, name: str) -> str | None:
    """Why nothing in the folder can be asked by a name, if so."""
    if not _NAME.fullmatch(name):
      return f"a name must be of {_RULE}"
    if name == self._t5_name:
      return "this is the T5's own name"
    if name.startswith(DRAFT):
      return f"names of drafts begin with {DRAFT!r}"
    if os.path.islink(self.folder / name):
      return "links are not followed"
    return None

  def _remember(self, name: str, stored: Stored) -> None:
    self._kept[name] = stored
    self._kept.move_to_end(name)
    while len(self._kept) > self._most:
      self._kept.popitem(last=False)

  @contextlib.contextmanager
  def _on_disk(self, name: str | None = None) -> Iterator[None]:
    """Refuses, and logs, what the folder's disk fails in."""
    try:
      yield
    except OSError as error:
      what = f"the adapter {name!r} in " if name else ""
      refusal = refusals.of_disk(error, f"{what}the folder {self.folder}")
      _log.error("%s", refusal)
      raise refusal from error

  def _absent(self, name: str) -> Refusal:
    return Refusal(
      404, f"there is no adapter {name!r}", "model", "model_not_found"
    )

  def _stamp(self, name: str) -> tuple[int, ...] | None:
    """Of an adapter that can be asked by this name; None where there is none."""
    if self._fault(name) is not None:
      return None
    folder = os.path.join(self.folder, name)
    try:
      stat = os.stat(os.path.join(folder, adapter_folder.INFO))
    except OSError:
      return None
    return stat.st_mtime_ns, stat.st_ino, stat.st_size


def _remove_deleted(folder: pathlib.Path) -> None:
  for hidden in folder.iterdir():
    if _HIDDEN.fullmatch(hidden.name):
      shutil.rmtree(hidden, ignore_errors=True)
