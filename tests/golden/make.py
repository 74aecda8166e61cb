"""Writes golden values anew: `python -m tests.golden.make order initial defaults`.

What moving each of them means is in README.md beside this file. `release` writes
the files of this version, which is done once for each, before it is released.
"""

import argparse
import json
import pathlib
import shutil
import tarfile

from tests import conftest  # noqa: F401 - eight devices, before jax is imported

HERE = pathlib.Path(__file__).parent
VALUES = ("order", "initial", "defaults")


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("what", nargs="+", choices=(*VALUES, "release"))
  for what in parser.parse_args().what:
    if what == "release":
      make_release()
      continue
    path = HERE / f"{what}.json"
    path.write_text(dumped(compute(what)))
    print(path)


def compute(what: str):
  """The content of a file of values, as JSON."""
  from tests.golden import defaults, initial, order

  modules = {"order": order, "initial": initial, "defaults": defaults}
  return json.loads(json.dumps(modules[what].compute()))


def dumped(content) -> str:
  """One line for each part of a part, so that a change shows where it is."""
  parts = [
    f"{json.dumps(name)}: {{\n"
    + ",\n".join(f"  {json.dumps(k)}: {json.dumps(x)}" for k, x in own.items())
    + "\n}"
    for name, own in content.items()
  ]
  return "{\n" + ",\n".join(parts) + "\n}\n"


def make_release() -> None:
  """Made where every machine has a folder, so that its files name no other."""
  import hyperjax
  from tests.golden import release

  folder = pathlib.Path("/tmp/hyperjax-golden")
  shutil.rmtree(folder, ignore_errors=True)
  expected = release.make(folder)
  kept = HERE / f"{hyperjax.__version__}.tar.xz"
  with tarfile.open(kept, "w:xz") as archive:
    archive.add(folder, ".", filter=_anonymous)
  shutil.rmtree(folder)
  path = HERE / f"{hyperjax.__version__}.json"
  path.write_text(dumped(json.loads(json.dumps(expected))))
  print(kept, path)


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
  entry.mtime = entry.uid = entry.gid = 0
  entry.uname = entry.gname = ""
  return entry


if __name__ == "__main__":
  main()
