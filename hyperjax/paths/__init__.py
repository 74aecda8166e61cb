"""Where files lie: on this machine, or in a bucket (`gs://`, `s3://`).

`at` gives the path of a text that a user wrote. One in a bucket acts as a
`pathlib.Path` does; what objects cannot do as files can (append, rename, be mapped
into memory) is done in whole objects, or on a local copy.
"""

import os

# Before anything asks etils, which would go by TensorFlow where that is there: its
# files in buckets are read here and by orbax through one library.
os.environ.setdefault("EPATH_USE_TF", "false")

from hyperjax.paths.bucket import Bucket
from hyperjax.paths.copies import (
  alone,
  borrowed,
  cache_folder,
  fetch,
  fetched,
  mirrored,
  part_of,
  remove_unused,
  sent,
  used,
  user_cache,
)
from hyperjax.paths.fence import NO_FENCE, Fence, NoFence
from hyperjax.paths.places import (
  Entry,
  argument,
  at,
  check,
  check_local,
  created,
  exchanged,
  is_bucket,
  is_remote,
  joined,
  listing,
  modified,
  move_folder,
  remove_folder,
  rename,
  replace,
  stamp,
)
from hyperjax.paths.stores import SCHEMES, StoreFailed, reason, sentence

__all__ = [
  "NO_FENCE",
  "SCHEMES",
  "Bucket",
  "Entry",
  "Fence",
  "NoFence",
  "StoreFailed",
  "alone",
  "argument",
  "at",
  "borrowed",
  "cache_folder",
  "check",
  "check_local",
  "created",
  "exchanged",
  "fetch",
  "fetched",
  "is_bucket",
  "is_remote",
  "joined",
  "listing",
  "mirrored",
  "modified",
  "move_folder",
  "part_of",
  "reason",
  "remove_folder",
  "remove_unused",
  "rename",
  "replace",
  "sent",
  "sentence",
  "stamp",
  "used",
  "user_cache",
]
