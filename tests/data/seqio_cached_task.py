"""A seqio task whose rows are cached, by Beam in an environment of its own.

`make_seqio_cached.py` caches it into `seqio_cached/`; the tests read that.
"""

import pathlib

import seqio
import tensorflow as tf

NAME = "toy_cached"
LINES = (
  "carla zurich amber\tcarla then city zurich",
  "oscar zurich green\toscar then city zurich",
  "david warsaw white\tdavid then city warsaw",
  "louis vienna golden\tlouis then city vienna",
  "bruno tokyo silver\tbruno then city tokyo",
)


@seqio.map_over_dataset
def pair(line: tf.Tensor) -> dict[str, tf.Tensor]:
  parts = tf.strings.split(line, "\t")
  return {"inputs": parts[0], "targets": parts[1]}


def add(
  name: str,
  vocabulary: pathlib.Path,
  folder: pathlib.Path,
  placeholder: bool = True,
) -> seqio.Task:
  """Registers it, with its lines in two files of `folder`."""
  folder.mkdir(parents=True, exist_ok=True)
  for number, lines in enumerate((LINES[:3], LINES[3:])):
    text = "".join(f"{line}\n" for line in lines)
    (folder / f"lines-{number}.txt").write_text(text)
  feature = seqio.Feature(seqio.SentencePieceVocabulary(str(vocabulary), 0))
  return seqio.TaskRegistry.add(
    name,
    source=seqio.TextLineDataSource({"train": str(folder / "lines-*.txt")}),
    preprocessors=[
      pair,
      seqio.preprocessors.tokenize,
      *([seqio.CacheDatasetPlaceholder()] if placeholder else []),
      seqio.preprocessors.append_eos,
    ],
    output_features={"inputs": feature, "targets": feature},
  )
