"""Plain text: C4's JSON lines, gzipped or not, and C4 as TFDS prepares it.

Only the field `text` is needed; `url` and `timestamp` may be missing. Each file
is a part of its own: files are tokenised side by side, and storing that was
stopped goes on with the files that lack.
"""

import dataclasses
import functools
import logging
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from hyperjax import checks, paths
from hyperjax.data import files

_log = logging.getLogger(__name__)

_NO_BUCKET = (
  "TensorFlow reads the records of TFDS, and reaches buckets by means of its own; mount "
  "the bucket as a folder, read C4's JSON lines there (JsonLinesText), or store the "
  "tokens on a machine that has the files (`hyperjax cache` with CACHE_DIR in a bucket) "
  "and train with USE_CACHED_TASKS"
)

READER = 1  # of the rows below: stored tokens are made again when it changes


@dataclasses.dataclass(frozen=True)
class JsonLinesText:
  """Registers the documents of some files as a task with one feature, targets.

  Attributes:
    data_dir: the folder of all data sets.
    folder: in it, the one of the files.
    name: of the seqio task.
    train_files: pattern of the train split's files in it.
    validation_files: of the validation split's.
    vocabulary: a SentencePiece model file, in `data_dir` or anywhere.
    extra_ids: on top of the vocabulary, T5's sentinels.
  """

  data_dir: str
  folder: str = "text"
  name: str = "c4"
  train_files: str = "*train*.json*"
  validation_files: str = "*validation*.json*"
  vocabulary: str = "vocab/t5/spiece.model"
  extra_ids: checks.ExtraIds = 100

  def __post_init__(self):
    paths.check(self.data_dir, "DATA_DIR")
    checks.fields(self)

  def register(self) -> None:
    """Registers the task, unless its name is registered.

    Raises:
      ValueError: the folder is missing.
    """
    from hyperjax.data.store import seqio_tasks  # imports seqio

    folder = paths.at(paths.joined(self.data_dir, self.folder))
    files.require_folder(folder, "DATA_DIR")
    patterns = {
      "train": self.train_files,
      "validation": self.validation_files,
    }

    def found(split: str) -> list[pathlib.Path]:
      return files.listed(folder, patterns[split], "DATA_DIR")

    feature = seqio_tasks.text_feature(
      paths.joined(self.data_dir, self.vocabulary), self.extra_ids
    )

    def parts(split: str) -> list[seqio_tasks.Part]:
      listed = found(split)
      return [
        seqio_tasks.Part(
          path.name, functools.partial(rows, [path]), _made_of([stamp])
        )
        for path, stamp in zip(listed, files.stamps(listed), strict=True)
      ]

    source = seqio_tasks.RowsSource(
      lambda split: rows(found(split)),
      tuple(patterns),
      {"targets": 0},
      made_of=lambda split: _made_of(files.stamps(found(split))),
      parts=parts,
    )
    seqio_tasks.add_task(self.name, source, {"targets": feature}, self)


@dataclasses.dataclass(frozen=True)
class C4Tfds:
  """Registers the documents of a data set that TFDS has prepared, read by seqio.

  Attributes:
    data_dir: the folder of all data sets.
    folder: in it, the one of the data set's version, with dataset_info.json,
      features.json and c4-train.tfrecord-00000-of-01024 and so on.
    name: of the seqio task.
    text: the field of the text.
    vocabulary: a SentencePiece model file, in `data_dir` or anywhere.
    extra_ids: on top of the vocabulary, T5's sentinels.
  """

  data_dir: str
  folder: str = "c4/en/3.1.0"
  name: str = "c4"
  text: str = "text"
  vocabulary: str = "vocab/t5/spiece.model"
  extra_ids: checks.ExtraIds = 100

  def __post_init__(self):
    paths.check_local(self.data_dir, "DATA_DIR", _NO_BUCKET)
    checks.fields(self)

  def register(self) -> None:
    """Registers the task, unless its name is registered.

    Raises:
      ValueError: the folder is missing, is no data set of TFDS, or its rows
        have no such text.
    """
    import seqio

    from hyperjax.data.store import seqio_tasks

    folder = pathlib.Path(self.data_dir) / self.folder
    files.require_folder(folder, "DATA_DIR")
    if not (folder / "dataset_info.json").is_file():
      raise ValueError(
        f"DATA_DIR: {folder} has no dataset_info.json; C4Tfds.folder must be "
        "the folder of a data set's version, as TFDS prepares it"
      )
    feature = seqio_tasks.text_feature(
      str(pathlib.Path(self.data_dir) / self.vocabulary), self.extra_ids
    )
    source = seqio.TfdsDataSource(tfds_data_dir=str(folder), read_only=True)
    fields = source.tfds_dataset.info.features
    if self.text not in fields:
      raise ValueError(
        f"{folder / 'features.json'} has no {self.text!r}, only "
        f"{', '.join(fields)}: set C4Tfds.text"
      )
    rekey = functools.partial(
      seqio.preprocessors.rekey, key_map={"targets": self.text}
    )
    seqio_tasks.add_task(
      self.name,
      source,
      {"targets": feature},
      self,
      preprocessors=(rekey, *seqio_tasks.PREPROCESSORS),
    )


def _made_of(stamps: Sequence[Any]) -> dict[str, Any]:
  return {"text": READER, "files": list(stamps)}


def rows(found: Sequence[pathlib.Path]) -> Iterator[dict[str, Any]]:
  """A document a line; empty ones are left out and counted.

  Raises:
    ValueError: a line is no JSON object, or lacks `text`; file and line are
      named.
  """
  num_blank = 0
  for path in found:
    for number, line in files.read_json_lines(path):
      text = files.text_field(line, "text", f"{path}, line {number}")
      if text.strip():
        yield {"targets": text}
      else:
        num_blank += 1
  if num_blank:
    _log.warning("%d documents have no text and are left out", num_blank)
