"""`hyperjax adapter`: folders of trained adapters, what they say, and means."""

import argparse
import json
import pathlib
from typing import Any

from hyperjax import checks, paths


def add_arguments(parser: argparse.ArgumentParser) -> None:
  actions = parser.add_subparsers(
    dest="action", metavar="ACTION", required=True
  )
  info = _add(actions, "info", "what an adapter folder holds")
  info.add_argument("folders", nargs="+", type=paths.argument, metavar="FOLDER")
  info.add_argument("--json", action="store_true", help="print it as JSON")
  save = _add(
    actions,
    "save",
    "what a run trained, the shared adapter or those of its tasks, as adapter "
    "folders",
  )
  save.add_argument(
    "run",
    metavar="RUN",
    help="a run of stages/shared_adapter.gin or stages/peft.gin",
  )
  save.add_argument(
    "--task",
    nargs="+",
    default=[],
    metavar="NAME",
    help="only the adapters of these tasks",
  )
  checks.add_option(
    save, "--step", checks.Whole(0), "of a checkpoint (the last)"
  )
  _add_out(
    save,
    "the adapter folder; of several tasks, a folder that gets one by the name "
    "of each",
  )
  _add_import(actions)
  _add_means(actions)


def _add_import(actions: Any) -> None:
  taken = _add(
    actions,
    "import",
    "an adapter of the peft library (LoRA or IA3) as an adapter folder",
  )
  taken.add_argument(
    "--from",
    dest="source",
    required=True,
    type=paths.argument,
    metavar="FOLDER",
    help="what PEFT's save_pretrained wrote",
  )
  taken.add_argument(
    "--model",
    required=True,
    metavar="PATH",
    help="the T5 that it is for: a folder of Hugging Face or t5x, or a run",
  )
  taken.add_argument(
    "--vocabulary",
    metavar="FILE",
    help="the T5's SentencePiece model, if not beside it",
  )
  _add_out(taken)


def _add_means(actions: Any) -> None:
  average = _add(
    actions,
    "average",
    "the mean of adapters: of a prefix's keys and values; of LoRA's updates, "
    "exactly, so that ranks add up; of IA3's scales",
  )
  average.add_argument(
    "folders", nargs="+", type=paths.argument, metavar="FOLDER"
  )
  checks.add_option(
    average,
    "--weights",
    checks.Weight,
    "one for each, scaled to a sum of 1 (all equal)",
    nargs="+",
    metavar="W",
  )
  _add_out(average)
  interpolate = _add(
    actions, "interpolate", "1 - WEIGHT of one adapter and WEIGHT of another"
  )
  interpolate.add_argument(
    "folders", nargs=2, type=paths.argument, metavar="FOLDER"
  )
  checks.add_option(
    interpolate,
    "--weight",
    checks.Share,
    "of the second",
    required=True,
    metavar="WEIGHT",
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


def _add_out(
  parser: argparse.ArgumentParser, what: str = "the adapter folder"
) -> None:
  parser.add_argument(
    "--out", required=True, type=paths.argument, metavar="FOLDER", help=what
  )
  parser.add_argument(
    "--overwrite", action="store_true", help="replace an adapter folder"
  )


def run(arguments: argparse.Namespace) -> None:
  """Does what the arguments ask.

  Raises:
    ValueError: a folder is broken, adapters cannot be combined, or a run has
      none.
  """
  from hyperjax.artifacts import adapter_folder
  from hyperjax.serving import average as combining  # imports jax

  if arguments.action == "save":
    _save(arguments)
    return
  if arguments.action == "import":
    from hyperjax.serving import importing

    said = importing.from_peft(
      arguments.source,
      arguments.model,
      arguments.out,
      arguments.vocabulary,
      arguments.overwrite,
    )
    print(said)
    return

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


def _save(arguments: argparse.Namespace) -> None:
  """Writes adapter folders of a run; all or, on an error, none."""
  from hyperjax.artifacts import adapter_folder, adapters_of_run  # imports jax

  trained = adapters_of_run.TrainedAdapters(arguments.run, arguments.step)
  chosen = trained.chosen(arguments.task)
  folders = [arguments.out]
  if len(chosen) > 1:
    folders = [_inside(arguments.out, str(name)) for name in chosen]
  for folder in folders:
    adapter_folder.check_free(folder, arguments.overwrite)
  made = list(trained.read(chosen))
  adapter_folder.write_all(
    list(zip(folders, made, strict=True)), arguments.overwrite
  )
  for folder, task, adapter in zip(folders, chosen, made, strict=True):
    of = "" if task is None else f" of {task}"
    print(f"{adapter.info.spec}{of}, step {trained.step}, in {folder}")
  if trained.wants_instructions:
    print(
      "its T5 read the instruction of each task before an input: put it there, "
      "and a blank"
    )


def _inside(out: pathlib.Path, task: str) -> pathlib.Path:
  """The folder of a task."""
  if pathlib.PurePath(task).name != task or task == "..":
    raise ValueError(
      f"task {task!r} has no name for a folder; --task saves it alone"
    )
  return out / task


def _content(folder: pathlib.Path, adapter: Any) -> dict[str, Any]:
  from hyperjax import adapters
  from hyperjax.artifacts import config_json, typed_json

  info, spec = adapter.info, config_json.tagged(adapter.info.spec)
  leaves = adapters.path_leaves(adapter.arrays)
  encoded = adapter.encoded
  return {
    "adapter": str(folder),
    "kind": spec.kind,
    "spec": typed_json.dump(spec.fields),
    "values": sum(leaf.size for leaf in leaves.values()),
    "dtype": str(next(iter(leaves.values())).dtype),
    "backbone": typed_json.dump(info.backbone),
    "tokenizer": info.tokenizer and info.tokenizer.description,
    "lengths": info.lengths,
    "instruction": info.instruction,
    "origin": info.origin,
    "check": info.check,
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
    elif name in ("check", "trained_further") and isinstance(value, dict):
      # The numbers are for programs.
      lines.append(f"{indent}{name}: {value.get('sentence')}")
    elif isinstance(value, dict):
      lines.append(f"{indent}{name}:")
      for inner, own in value.items():
        add(inner, own, indent + "  ")
    else:
      shown = ", ".join(map(str, value)) if isinstance(value, list) else value
      lines.append(f"{indent}{name}: {shown}")

  for name, value in content.items():
    if name != "adapter":
      add(name, value, "  ")
  return "\n".join(lines)
