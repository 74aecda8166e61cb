"""Pointers of Git LFS, which stand where large files were not fetched."""

import pathlib

_BEGINS = b"version https://git-lfs.github.com/spec/"
_LONGEST = 1024  # bytes; the format's own limit


def check(path: pathlib.Path) -> None:
  """Refuses a file that only points at the one that is wanted.

  Raises:
    ValueError: says how the file itself is had.
  """
  try:
    if path.stat().st_size > _LONGEST:
      return
    found = path.read_bytes()
  except OSError:
    return  # whoever reads it says what is wrong
  if found.startswith(_BEGINS):
    raise ValueError(
      f"{path} is a pointer of Git LFS ({len(found)} bytes), not the file "
      f"itself: `git lfs pull` in {path.parent} fetches it, or download it again"
    )
