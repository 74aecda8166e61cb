"""Options of how answers are decoded, and what they ask for."""

import argparse
from typing import TYPE_CHECKING, Any

from hyperjax import checks

if TYPE_CHECKING:
  from hyperjax.serving import answering_t5


def add(parser: argparse.ArgumentParser) -> None:
  def one(option: str, declared: Any, default: Any, summary: str) -> None:
    checks.add_option(parser, option, declared, summary, default=default)

  length, count = checks.Length, checks.Count
  one("--batch_size", count, 32, "inputs decoded together (32)")
  one("--max_length", length, None, "tokens of an answer (as in training)")
  one("--input_length", length, None, "tokens of an input (as in training)")
  one("--num_beams", checks.NumBeams, 1, "searches with beams (1: greedy)")
  one(
    "--temperature",
    checks.Temperature,
    0.0,
    "samples at this temperature (0: greedy)",
  )
  one("--top_k", checks.TopK, 0, "samples of the k likeliest tokens (0: all)")
  one(
    "--top_p",
    checks.TopP,
    1.0,
    "samples of the likeliest tokens that reach p (1: all)",
  )
  one("--seed", checks.Seed, 0, "of what is sampled (0)")


def read(arguments: argparse.Namespace) -> "answering_t5.Options":
  from hyperjax.models import decoding
  from hyperjax.serving import answering_t5

  decoder: decoding.Decoder = decoding.Sampling(
    arguments.temperature, arguments.top_k, arguments.top_p
  )
  if arguments.num_beams != 1:
    if arguments.temperature:
      raise ValueError(
        "--num_beams and --temperature exclude each other: beams are searched, "
        "or answers are sampled"
      )
    decoder = decoding.Beam(arguments.num_beams)
  elif not arguments.temperature and (arguments.top_k or arguments.top_p != 1):
    raise ValueError("--top_k and --top_p need a --temperature above 0")
  return answering_t5.Options(
    decoder, arguments.max_length, arguments.batch_size, arguments.seed
  )
