"""The tokenizer of a T5, and tasks that are in another one."""

import dataclasses
import shutil
from types import SimpleNamespace

import pytest

from hyperjax import main
from hyperjax.artifacts import t5_folder, tokenizer_of
from hyperjax.artifacts.run_record import BackboneRef, Merged
from hyperjax.data import vocabularies
from hyperjax.data.byte_vocabulary import Bytes
from hyperjax.data.vocabulary import SentencePiece
from hyperjax.interop import hf, weights
from hyperjax.tasks import records
from tests import adapter_example, conftest, testing

FAMILY = conftest.MODELS / "t5_family"
PIECES = FAMILY / "spiece" / "spiece.model"
CONFIG = dataclasses.replace(testing.CONFIG, vocab_size=700)


@pytest.fixture(scope="module")
def t5(tmp_path_factory):
  """A T5 of Hugging Face with a SentencePiece model."""
  folder = tmp_path_factory.mktemp("whole") / "t5"
  adapter_example.backbone(folder, CONFIG)
  shutil.copy(PIECES, folder)
  return folder


def _tasks(vocabulary):
  return [SimpleNamespace(name="own", vocabulary=vocabulary)]


@pytest.mark.parametrize("extra_ids", [100, 0])
def test_tasks_in_the_t5s_own_vocabulary_are_taken(t5, tmp_path, extra_ids):
  moved = shutil.copy(PIECES, tmp_path)
  tasks = _tasks(SentencePiece(str(moved), extra_ids))
  tokenizer_of.check_tasks(tasks, str(t5), 700)


def test_tasks_in_another_vocabulary_than_the_t5s_are_refused(t5):
  # "T" is 0x54.
  message = (
    r"task 'own' .* another vocabulary.* 'The quick .* is \[87, .* its own"
  )
  with pytest.raises(ValueError, match=message):
    tokenizer_of.check_tasks(_tasks(Bytes()), str(t5), 700)


def test_the_same_ids_from_another_format_are_the_same_vocabulary(t5):
  pytest.importorskip("tokenizers")
  path = FAMILY / "tokenizer_json_only" / "tokenizer.json"
  tasks = _tasks(vocabularies.named(str(path)))
  tokenizer_of.check_tasks(tasks, str(t5), 700)


def test_a_t5_of_which_nothing_is_said_takes_any_tasks(tmp_path):
  adapter_example.backbone(tmp_path / "t5", testing.CONFIG)
  for initial in (None, str(tmp_path / "t5"), "https://store/t5"):
    tokenizer_of.check_tasks(_tasks(Bytes()), initial, 400)


def test_a_t5_written_here_keeps_its_tokenizer_and_hands_it_on(tmp_path):
  config = dataclasses.replace(testing.CONFIG, vocab_size=96)
  own = records.vocabulary()
  source = weights.from_params("memory", config, testing.t5_params(config))
  made_of = Merged(BackboneRef("ab" * 32, "/t5"), "cd" * 32)
  t5_folder.write(tmp_path / "run", source, made_of, own)
  found = tokenizer_of.of_t5(str(tmp_path / "run"))
  assert found.identity == own.identity
  assert str(found.path).startswith(str(tmp_path))
  options = ("--from", str(tmp_path / "run"), "--to", str(tmp_path / "hf"))
  assert main.main(["import", *options]) == 0
  again = vocabularies.beside(tmp_path / "hf", config.vocab_size)
  assert again.identity == own.identity
  assert hf.open_folder(tmp_path / "hf").config.vocab_size == 96


@pytest.mark.parametrize(
  "given, message",
  [
    ("bytes", "the vocabulary of bytes has 384 ids .* only 96"),
    ("/nowhere/tokenizer.json", "--vocabulary /nowhere/.* no such file"),
  ],
)
def test_a_tokenizer_that_is_given_must_be_there_and_fit(
  tmp_path, given, message
):
  with pytest.raises(ValueError, match=message):
    tokenizer_of.files_for_hf(str(tmp_path), 96, given)


def test_a_task_without_the_tokens_that_were_added_to_the_t5s_is_refused():
  folder = FAMILY / "added_tokens"
  lacking = _tasks(SentencePiece(str(folder / "spiece.model")))
  with pytest.raises(ValueError, match=r"another vocabulary.*<tone>"):
    tokenizer_of.check_tasks(lacking, str(folder), 702)
  tokenizer_of.check_tasks(
    _tasks(vocabularies.beside(folder)), str(folder), 702
  )
