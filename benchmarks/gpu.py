"""Everything that one GPU is to be measured by, within ten minutes.

Each case runs in a process of its own, with nothing of the one before in memory, and
what has been measured is written after each: whoever stops it keeps that. Step time,
tokens and matrix-product operations a second, their share of the card's peak, peak
memory, kernels by time. torch with transformers computes the same beside it, where
`--torch` names a Python that has them. Neither tensorflow, seqio nor gin is needed.

  python -m benchmarks.gpu --json=OUT [--seconds=600] [--cases="decode,large lora"] \
    [--torch=PYTHON] [--platform=cpu --size=tiny]
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

MiB = 1024**2
HEADS = ("ms", "tokens/s", "TFLOP/s", "of peak", "GiB", "kernels", "first, s")
TORCH = pathlib.Path(__file__).with_name("gpu_torch.py")


def columns(found: Mapping[str, Any]) -> list[str]:
  """A case's line of the table, but for its name."""
  if "error" in found:
    return [found["error"].strip().splitlines()[-1][:60]]
  if "apart" in found:
    return [f"{found['apart']:.1e} of logits up to {found['largest']:.1f}"]
  kernels = found.get("kernels") or {}
  values = [
    (found["seconds"] * 1e3, ".1f"),
    (found["tokens_per_s"], ",.0f"),
    (_scaled(found.get("operations_per_s"), 1e12), ".1f"),
    (found.get("utilisation"), ".1%"),
    (_scaled(found.get("peak_bytes"), 1024 * MiB), ".1f"),
    (kernels.get("count"), ",d"),
    (found["first_s"], ".1f"),
  ]
  return ["" if x is None else format(x, form) for x, form in values]


def _scaled(value: float | None, by: float) -> float | None:
  return None if value is None else value / by


def table(results: Sequence[Mapping[str, Any]]) -> str:
  """In Markdown, and below it where the time of each case goes."""
  lines = [
    "| case | " + " | ".join(HEADS) + " |",
    "|---|" + "---|" * len(HEADS),
  ]
  for found in results:
    lines.append("| " + " | ".join([found["case"], *columns(found)]) + " |")
  for found in results:
    if not (kernels := found.get("kernels")):
      continue
    longest = ", ".join(
      f"{name} {ms:.1f}" for name, ms in kernels["longest_ms"].items()
    )
    lines.append(f"\n{found['case']}, {kernels['ms']:.1f} ms: {longest}")
  return "\n".join(lines)


def run_case(
  command: Sequence[str], name: str, seconds: float
) -> dict[str, Any]:
  """What a process says of its case; what it ended with, where it says nothing."""
  try:
    ended = subprocess.run(
      command, capture_output=True, text=True, timeout=seconds, check=False
    )
  except subprocess.TimeoutExpired:
    return {"case": name, "error": f"not done after {seconds:.0f} s"}
  if ended.returncode:
    return {"case": name, "error": ended.stderr or f"exit {ended.returncode}"}
  return json.loads(ended.stdout.strip().splitlines()[-1])


def commands(arguments: argparse.Namespace) -> dict[str, list[str]]:
  """Of all cases that are asked for, by name."""
  # Imported, jax takes no device yet, so that a case's process finds it free.
  from benchmarks import gpu_cases

  wanted = [x.strip() for x in arguments.cases.split(",") if x.strip()]
  own = [sys.executable, "-m", "benchmarks.gpu", f"--size={arguments.size}"]
  every = {
    name: [*own, f"--platform={arguments.platform}", f"--case={name}"]
    for name in gpu_cases.CASES
  }
  if arguments.torch:
    for name in ("decode", "tune", "tune compiled"):
      every[f"torch {name}"] = [
        *(arguments.torch, str(TORCH)),
        *(f"--case={name}", f"--size={arguments.size}"),
        f"--device={'cpu' if arguments.platform == 'cpu' else 'cuda'}",
      ]
  if unknown := [name for name in wanted if name not in every]:
    sys.exit(
      f"--cases names {', '.join(unknown)}; there are {', '.join(every)}"
    )
  return {name: every[name] for name in wanted or every}


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--json", type=pathlib.Path)
  parser.add_argument("--seconds", type=float, default=600.0)
  parser.add_argument("--cases", default="", help="all, unless named")
  parser.add_argument("--torch", default="", help="a Python with torch")
  parser.add_argument("--platform", default="gpu", choices=("gpu", "cpu"))
  parser.add_argument("--size", default="full", choices=("full", "tiny"))
  parser.add_argument("--case", help=argparse.SUPPRESS)
  arguments = parser.parse_args()
  if arguments.case:
    # Before jax is imported, which reads it once.
    own = {"cpu": "cpu", "gpu": "cuda"}[arguments.platform]
    os.environ["JAX_PLATFORMS"] = own
    from benchmarks import gpu_cases

    size = gpu_cases.SIZES[arguments.size]
    print(json.dumps(gpu_cases.measure(arguments.case, size)))
    return
  ends = time.monotonic() + arguments.seconds
  results: list[dict[str, Any]] = []
  for name, command in commands(arguments).items():
    left = ends - time.monotonic()
    found = {"case": name, "error": "no time was left"}
    if left > 1:
      print(f"{name} ...", file=sys.stderr, flush=True)
      found = run_case(command, name, left)
    results.append(found)
    if arguments.json:
      arguments.json.write_text(json.dumps(results, indent=1) + "\n")
  print(table(results))


if __name__ == "__main__":
  main()
