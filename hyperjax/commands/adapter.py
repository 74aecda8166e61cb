"""`hyperjax adapter`: what adapter folders say, and means of them."""

import argparse
import json
import pathlib
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
  actions = parser.add_subparsers(
    dest="action", metavar="ACTION", required=True
  )
  info = _add(actions, "info", "what an adapter folder holds")
  info.add_argument("folders", nargs="+", type=pathlib.Path, metavar="FOLDER")
  info.add_argument("--json", action="store_true", help="print it as JSON")
  average = _add(
    actions,
    "average",
    "the mean of adapters: of a prefix's keys and values; of LoRA's updates, "
    "exactly, so that ranks add up",
  )
  average.add_argument(
    "folders", nargs="+", type=pathlib.Path, metavar="FOLDER"
  )
  average.add_argument(
    "--weights",
    nargs="+",
    type=float,
    metavar="W",
    help="one for each, scaled to a sum of 1 (all equal)",
  )
  _add_out(average)
  interpolate = _add(
    actions, "interpolate", "1 - WEIGHT of one adapter and WEIGHT of another"
  )
  interpolate.add_argument(
    "folders", nargs=2, type=pathlib.Path, metavar="FOLDER"
  )
  interpolate.add_argument(
    "--weight", required=True, type=float, metavar="WEIGHT", help="from 0 to 1"
  )
  _add_out(interpolate)


def _add(actions: Any, name: str, summary: str) -> argparse.ArgumentParser:
  parser = actions.add_parser(
    name, help=summary, description=summary + ".", allow_abbrev=False
  )
  parser.add_argument(
    "-v", "--verbose", action="store_true", help="more log, tracebacks"
  )
  return parser


def _add_out(parser: argparse.ArgumentParser) -> None:
  parser.add_argument(
    "--out", required=True, type=pathlib.Path, metavar="FOLDER"
  )
  parser.add_argument(
    "--overwrite", action="store_true", help="replace an adapter folder"
  )


def run(arguments: argparse.Namespace) -> None:
  """Does what the arguments ask.

  Raises:
    ValueError: a folder is broken, or adapters cannot be combined.
  """
  from hyperjax import adapter_folder, combining  # imports jax

  is_info = arguments.action == "info"
  given = [
    adapter_folder.read(folder, with_encoded=is_info)
    for folder in arguments.folders
  ]
  if is_info:
    contents = [
      _content(folder, adapter)
      for folder, adapter in zip(arguments.folders, given, strict=True)
    ]
    if arguments.json:
      print(json.dumps(contents, indent=1, ensure_ascii=False))
    else:
      print("\n\n".join(map(_shown, contents)))
    return
  adapter_folder.check_free(arguments.out, arguments.overwrite)
  if arguments.action == "average":
    found = combining.average(given, arguments.weights, arguments.folders)
  else:
    first, second = given
    found = combining.interpolate(
      first, second, arguments.weight, arguments.folders
    )
  found.save(arguments.out, arguments.overwrite)
  print(f"{found.info.spec} in {arguments.out}")


def _content(folder: pathlib.Path, adapter: Any) -> dict[str, Any]:
  from hyperjax import adapters, described

  info = adapter.info
  leaves = adapters.path_leaves(adapter.arrays)
  encoded = adapter.encoded
  return {
    "adapter": str(folder),
    "kind": type(info.spec).__name__,
    "spec": described.describe(info.spec),
    "values": sum(leaf.size for leaf in leaves.values()),
    "dtype": str(next(iter(leaves.values())).dtype),
    "backbone": dict(info.backbone),
    "tokenizer": info.tokenizer,
    "lengths": info.lengths,
    "instruction": info.instruction,
    "origin": info.origin,
    "arrays_sha256": adapter.identity,
    # What makes updates exact, where it is kept.
    "encoded": encoded
    and {
      "rows": encoded.num_rows,
      "positions": len(encoded.values),
      "dtype": str(encoded.values.dtype),
      "bytes": encoded.values.nbytes,
    },
  }


def _shown(content: Any) -> str:
  """A line for each fact; nested ones are indented."""
  lines = [content["adapter"]]

  def add(name: str, value: Any, indent: str) -> None:
    if isinstance(value, list) and value and isinstance(value[0], dict):
      for i, item in enumerate(value, 1):
        add(f"{name} {i}", item, indent)
    elif name == "examples":
      return  # hashes, for programs alone
    elif isinstance(value, dict):
      lines.append(f"{indent}{name}:")
      for inner, own in value.items():
        add(inner, own, indent + "  ")
    else:
      shown = ", ".join(value) if isinstance(value, list) else value
      lines.append(f"{indent}{name}: {shown}")

  for name, value in content.items():
    if name != "adapter":
      add(name, value, "  ")
  return "\n".join(lines)
