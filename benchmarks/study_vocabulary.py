"""The vocabulary of the Super-NaturalInstructions study: 4,000 pieces.

A unigram model of SentencePiece with T5's special ids, made of the plain text and
of the training tasks' inputs. With T5's own 32,000 pieces most of a tiny T5 would
be its embedding and most of its arithmetic the output layer. Digits are split.

  python -m benchmarks.study_vocabulary --data_dir=/data --out=/runs/spiece.model
"""

import argparse
import itertools
import pathlib
import tempfile
from collections.abc import Iterator, Sequence

import sentencepiece

from hyperjax import paths
from hyperjax.data import files
from hyperjax.tasks import c4, superni

NUM_PIECES = 4000
MAX_BYTES = 6000  # of a line; longer ones are left out


def main(arguments: Sequence[str] | None = None) -> None:
  """Trains the model and writes it to --out."""
  parser = argparse.ArgumentParser(description="The study's vocabulary.")
  parser.add_argument("--data_dir", required=True)
  parser.add_argument("--split_list", default="default")
  parser.add_argument("--out", type=pathlib.Path, required=True)
  options = parser.parse_args(arguments)
  with tempfile.TemporaryDirectory() as folder:
    prefix = pathlib.Path(folder) / "spiece"
    sentencepiece.SentencePieceTrainer.train(
      sentence_iterator=lines(options.data_dir, options.split_list),
      model_prefix=str(prefix),
      model_type="unigram",
      vocab_size=NUM_PIECES,
      character_coverage=0.9995,
      pad_id=0,
      eos_id=1,
      unk_id=2,
      bos_id=-1,
      pad_piece="<pad>",
      eos_piece="</s>",
      unk_piece="<unk>",
      split_digits=True,
      max_sentence_length=MAX_BYTES,
      num_threads=2,
      minloglevel=1,
    )
    model = prefix.with_suffix(".model").read_bytes()
  options.out.parent.mkdir(parents=True, exist_ok=True)
  paths.replace(options.out, model)
  print(f"{options.out}: {NUM_PIECES} pieces")


def lines(data_dir: str, split_list: str) -> Iterator[str]:
  """Lines of the plain text and of the training tasks' inputs."""
  folder = pathlib.Path(data_dir) / "text"
  pattern = c4.JsonLinesText(data_dir).train_files
  text = c4.rows(files.listed(folder, pattern, "--data_dir"))
  inputs = superni.TrainingInputs(
    superni.SuperNaturalInstructions(
      data_dir, split_list=split_list, skip_missing=True
    )
  ).documents()
  for row in itertools.chain(text, inputs):
    yield from filter(None, map(str.strip, row["targets"].split("\n")))


if __name__ == "__main__":
  main()
