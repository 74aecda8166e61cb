"""What a store's info.json must say, checked when it is read."""

from collections.abc import Mapping
from typing import Any

from hyperjax.data import files, json_text

_DTYPES = ("uint16", "int32")
_LARGEST_ID = 2**31 - 1


def check(info: Mapping[str, Any], where: str) -> None:
  """Refuses what no store says of itself.

  Args:
    info: the content of info.json.
    where: its path, for messages.

  Raises:
    ValueError: a field is missing or of another kind; it is named.
  """
  features = files.text_list(info, "features", where, at_least=1)
  if len(set(features)) < len(features):
    raise ValueError(f"{where}: 'features' has one twice: {features}")
  if files.field(info, "dtype", where) not in _DTYPES:
    raise ValueError(
      f"{where}: 'dtype' must be one of {', '.join(_DTYPES)}, got "
      f"{json_text.shown(info['dtype'])}"
    )
  files.whole_field(info, "rows", where)
  files.whole_field(info, "tokens", where)
  if not isinstance(files.field(info, "records", where), bool):
    raise ValueError(
      f"{where}: 'records' must be true or false, got "
      f"{json_text.shown(info['records'])}"
    )
  for name in ("longest", "last_id"):
    _check_by_feature(info, name, features, where)
  if info.get("instruction") is not None:
    _check_ids(info, where)
  if "parts" in info:
    _check_parts(info, features, where)


def _check_by_feature(
  info: Mapping[str, Any], name: str, features: list[str], where: str
) -> None:
  found = info.get(name, {})
  if not isinstance(found, Mapping):
    raise ValueError(
      f"{where}: {name!r} must be an object, got {json_text.shown(found)}"
    )
  for feature in found.keys() & set(features):
    if name == "longest" or found[feature] is not None:
      files.whole_field(found, feature, f"{where}: {name!r}")


def _check_ids(info: Mapping[str, Any], where: str) -> None:
  ids = files.list_field(info, "instruction", where)
  if not all(type(i) is int and 0 <= i <= _LARGEST_ID for i in ids):
    raise ValueError(
      f"{where}: 'instruction' must be a list of ids, got {json_text.shown(ids)}"
    )


def _check_parts(
  info: Mapping[str, Any], features: list[str], where: str
) -> None:
  parts = files.list_field(info, "parts", where)
  if not parts:
    raise ValueError(f"{where}: 'parts' has no entry")
  for number, part in enumerate(parts):
    own = f"{where}, part {number}"
    files.text_field(part, "folder", own)
    for name in ("rows", "tokens"):
      files.whole_field(part, name, own)
  for feature in features:
    longest = files.field(info, "longest", where)
    files.whole_field(longest, feature, f"{where}: 'longest'")
  for name in ("rows", "tokens"):
    total = sum(part[name] for part in parts)
    if total != info[name]:
      raise ValueError(
        f"{where}: its parts have {total} {name}, it says {info[name]}"
      )
