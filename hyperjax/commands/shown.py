"""What help ends with: an example of each command, which a test runs the parser on."""

import argparse
import textwrap
from typing import Any

_MINE = "--gin.MODEL_DIR=/runs/mine"
_SNI = """--gin_file=adapters/lora.gin --gin_file=runs/mtf_sni.gin"""

EXAMPLES = {
  "train": f"""
hyperjax train {_SNI} \\
    --gin.DATA_DIR=/data --gin.INITIAL_CHECKPOINT_PATH=/models/t5 \\
    {_MINE}""",
  "eval": """
hyperjax eval --gin_file=runs/eval_sni.gin --gin.DATA_DIR=/data \\
    --gin.CHECKPOINT_PATH=/runs/mine""",
  "cache": f"""
hyperjax cache {_SNI} \\
    --gin.DATA_DIR=/data""",
  "tasks": """
hyperjax tasks --gin_file=tasks/superni.gin --gin.DATA_DIR=/data --filter=qa""",
  "inspect": """
hyperjax inspect records_rule_007 --num=1""",
  "plan": f"""
hyperjax plan {_SNI} \\
    --gin_file=models/t5_1_1_large.gin --topology=v5e:8x8""",
  "import": """
hyperjax import --from=/models/t5_1_1_base/checkpoint_1000000 \\
    --to=/models/t5-1.1-base --check""",
  "adapt": """
hyperjax adapt --model=/runs/mine --examples tone.csv --out=/adapters/tone""",
  "predict": """
hyperjax predict --model=/runs/mine --adapter=/adapters/tone \\
    --inputs=letters.txt --out=answers.jsonl""",
  "adapter": """
hyperjax adapter info /adapters/tone""",
  "adapter info": """
hyperjax adapter info /adapters/tone --json""",
  "adapter save": """
hyperjax adapter save /runs/peft_sni --out=/adapters/sni""",
  "adapter import": """
hyperjax adapter import --from=/peft/tone --model=/models/t5 \\
    --out=/adapters/tone""",
  "adapter average": """
hyperjax adapter average /adapters/tone /adapters/formal --out=/adapters/both""",
  "adapter interpolate": """
hyperjax adapter interpolate /adapters/tone /adapters/formal --weight=0.3 \\
    --out=/adapters/between""",
  "export": """
hyperjax export --adapter=/adapters/tone --to=peft --out=/exports/tone""",
  "score": """
hyperjax score sni predictions.jsonl --data_dir=/data""",
  "score sni": """
hyperjax score sni predictions.jsonl --data_dir=/data""",
  "score metaicl": """
hyperjax score metaicl out/ --data_dir=/data --setting=hr_to_lr""",
  "score p3": """
hyperjax score p3 inference_eval/ --data_dir=/data""",
  "score own": """
hyperjax score own answers.jsonl""",
  "serve": """
hyperjax serve --model=/runs/mine --adapters=/adapters --port=8000""",
  "report": """
hyperjax report /runs/mine /runs/shared --out=report.html""",
}


def subcommands(
  parser: argparse.ArgumentParser,
) -> dict[str, argparse.ArgumentParser]:
  """The parser of each command, of nested ones by both names."""
  found = {}
  for action in parser._actions:  # noqa: SLF001 - argparse lists them nowhere else
    if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
      parsers: Any = action.choices  # a dictionary of them
      for name, own in parsers.items():
        found[name] = own
        nested = subcommands(own)
        found |= {f"{name} {inner}": each for inner, each in nested.items()}
  return found


def add_examples(parser: argparse.ArgumentParser) -> None:
  """Ends the help of every command with its example."""
  for name, own in subcommands(parser).items():
    own.formatter_class = argparse.RawDescriptionHelpFormatter
    own.description = textwrap.fill(own.description or "", 79)
    parts = [] if own.epilog is None else [textwrap.fill(own.epilog, 79)]
    if name in EXAMPLES:
      parts.append(f"example:\n  {EXAMPLES[name].strip()}")
    own.epilog = "\n\n".join(parts)
