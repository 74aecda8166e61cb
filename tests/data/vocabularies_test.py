"""Tokenizers of every kind: by path, by folder, by what a record says."""

import json
import pathlib
import shutil

import pytest

from hyperjax.data import tokenizer_json, vocabularies
from hyperjax.data.byte_vocabulary import Bytes
from hyperjax.data.tokenizer_json import TokenizerJson
from hyperjax.data.vocabulary import SentencePiece
from tests import conftest

FAMILY = conftest.MODELS / "t5_family"
PIECES = FAMILY / "spiece" / "spiece.model"  # 600 of them


def test_a_byte_is_a_token_after_three():
  # "é" is C3 A9 in UTF-8.
  ids = [0xC3 + 3, 0xA9 + 3, 260, ord("!") + 3]
  assert Bytes().encode("é<extra_id_1>!") == ids
  assert Bytes().decode([*ids, 1, 99]) == "é<extra_id_1>!"
  assert Bytes(0).encode("<extra_id_1>") == [ord(x) + 3 for x in "<extra_id_1>"]
  assert Bytes().decode([0xC3 + 3, ord("a") + 3, 0, 2]) == "a"


def _with_pieces(folder, **others):
  folder.mkdir()
  shutil.copy(PIECES, folder)
  for name, content in others.items():
    (folder / f"{name}.json").write_text(json.dumps(content))
  return folder


def test_added_tokens_split_the_text_before_pieces_are_made(tmp_path):
  folder = _with_pieces(tmp_path / "t5", added_tokens={"<tone>": 700, "<": 703})
  tokenizer = vocabularies.beside(folder)
  plain = SentencePiece(str(PIECES))
  assert tokenizer.size == 704
  cat, mat = plain.encode("the cat"), plain.encode("mat")
  found = tokenizer.encode("the cat<tone>mat <")
  assert found == [*cat, 700, *mat, 703]
  assert tokenizer.decode(found) == "the cat<tone> mat<"
  assert tokenizer.identity != plain.identity


def test_sentinels_split_the_text_wherever_they_stand(tmp_path):
  tokenizer = vocabularies.beside(_with_pieces(tmp_path / "t5"))
  cat, end = tokenizer.encode("the cat"), tokenizer.encode(".")
  found = tokenizer.encode("the cat<extra_id_0>the cat <extra_id_12>.")
  assert found == [*cat, 699, *cat, 687, *end]


_SPECIAL = {"content": "<tone>", "special": True}


def test_a_special_added_token_is_left_out_of_decoded_text(tmp_path):
  config = {"added_tokens_decoder": {"700": _SPECIAL, "701": "<other>"}}
  config["added_tokens_decoder"]["701"] = {"content": "<other>"}
  folder = _with_pieces(tmp_path / "t5", tokenizer_config=config)
  tokenizer = vocabularies.beside(folder)
  found = tokenizer.encode("the cat<tone> mat<other>")
  assert 700 in found and 701 in found
  assert tokenizer.decode(found) == "the cat mat<other>"
  # So it is where a run has kept the tokenizer.
  kept = vocabularies.open_described(tokenizer.description, tmp_path)
  assert kept.decode(found) == "the cat mat<other>"
  written = tokenizer.hf_settings()["added_tokens_decoder"]
  assert written.keys() == {"700"} and written["700"]["special"]
  (tmp_path / "bytes").mkdir()
  said = {
    "tokenizer_class": "ByT5Tokenizer",
    "added_tokens_decoder": {"259": _SPECIAL},
  }
  path = tmp_path / "bytes" / "tokenizer_config.json"
  path.write_text(json.dumps(said))
  of_bytes = vocabularies.beside(tmp_path / "bytes")
  assert of_bytes.encode("a<tone>b") == [100, 259, 101]
  assert of_bytes.decode([100, 259, 101]) == "ab"


@pytest.mark.parametrize(
  "said, extra_ids",
  [
    ({}, 125),
    ({"extra_ids": 0}, 0),
    ({"extra_ids": 0, "additional_special_tokens": ["<extra_id_0>"]}, 125),
    ({"added_tokens_decoder": {"1": {"content": "</s>"}}}, 0),
  ],
)
def test_bytes_have_extra_ids_unless_their_files_say_that_there_are_none(
  tmp_path, said, extra_ids
):
  path = tmp_path / "tokenizer_config.json"
  path.write_text(json.dumps({"tokenizer_class": "ByT5Tokenizer"} | said))
  assert vocabularies.beside(tmp_path).size == 259 + extra_ids


def test_added_tokens_that_are_pieces_already_change_nothing(tmp_path):
  known = {"</s>": 1, "<extra_id_0>": 699}
  folder = _with_pieces(tmp_path / "t5", added_tokens=known)
  assert vocabularies.beside(folder) == SentencePiece(str(folder / PIECES.name))


def test_an_added_token_with_the_id_of_a_piece_is_of_another_tokenizer(
  tmp_path,
):
  folder = _with_pieces(tmp_path / "t5", added_tokens={"<tone>": 599})
  with pytest.raises(ValueError, match="'<tone>' was added with the id 599"):
    vocabularies.beside(folder)


def test_extra_ids_that_are_listed_otherwise_are_as_they_are_listed(tmp_path):
  # umT5 has 300 of them, the last first.
  listed = {f"<extra_id_{i}>": 899 - i for i in range(300)}
  folder = _with_pieces(tmp_path / "t5", added_tokens=listed)
  tokenizer = vocabularies.beside(folder)
  assert tokenizer.size == 900
  assert tokenizer.encode("<extra_id_0> <extra_id_299>") == [899, 600]


def test_two_files_cannot_give_a_token_two_ids(tmp_path):
  settings = {"added_tokens_decoder": {"701": {"content": "<tone>"}}}
  folder = _with_pieces(
    tmp_path / "t5", added_tokens={"<tone>": 700}, tokenizer_config=settings
  )
  with pytest.raises(ValueError, match=r"gives '<tone>' the id 70.* 70"):
    vocabularies.beside(folder)


@pytest.mark.parametrize(
  "settings, vocab_size, size",
  [({}, 704, 700), ({}, 640, 600), ({"extra_ids": 7}, 704, 607)],
)
def test_extra_ids_are_those_of_the_settings_or_where_there_is_room(
  tmp_path, settings, vocab_size, size
):
  folder = _with_pieces(tmp_path / "t5", tokenizer_config=settings)
  assert vocabularies.beside(folder, vocab_size).size == size


@pytest.mark.parametrize("name", ["spiece.model", "tokenizer.json"])
def test_a_tokenizer_that_was_not_fetched_is_known(tmp_path, name):
  (tmp_path / name).write_text(
    "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 7\n"
  )
  with pytest.raises(ValueError, match=f"{name} is a pointer of Git LFS"):
    vocabularies.beside(tmp_path).check()


def _bpe(folder, *, added=()):
  """A byte-pair tokenizer as of RoBERTa: <s> before, </s> after a text."""
  tokenizers = pytest.importorskip("tokenizers")
  vocab = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "a": 4, "b": 5, "ab": 6}
  model = tokenizers.models.BPE(vocab, [("a", "b")], unk_token="<unk>")
  made = tokenizers.Tokenizer(model)
  made.post_processor = tokenizers.processors.TemplateProcessing(
    single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
  )
  made.add_special_tokens(["<pad>", "<s>", "</s>", "<unk>"])
  made.enable_truncation(3)
  made.enable_padding(length=9)
  folder.mkdir()
  made.save(str(folder / "tokenizer.json"))
  settings = {"eos_token": {"content": "</s>"}, "pad_token": "<pad>"}
  (folder / "tokenizer_config.json").write_text(json.dumps(settings))
  if added:
    (folder / "added_tokens.json").write_text(json.dumps(dict(added)))
  return vocabularies.beside(folder)


def test_a_byte_pair_tokenizer_puts_its_own_start_before_a_text(tmp_path):
  found = _bpe(tmp_path / "t5")
  assert (found.start_id, found.eos_id, found.pad_id) == (1, 2, 0)
  assert (found.unknown_id, found.size) == (3, 7)
  # Whole: how its owner cut and filled rows is left out.
  assert found.encode("abaab") == [1, 6, 4, 6]
  assert found.decode([1, 6, 4, 6, 2, 5]) == "ab a ab"


def test_text_of_byte_pairs_is_not_cleaned(tmp_path):
  # transformers 5 cleans that of other tokenizers alone.
  _bpe(tmp_path / "t5", added=[(".", 7)])
  path = tmp_path / "t5" / "tokenizer_config.json"
  said = json.loads(path.read_text()) | {"clean_up_tokenization_spaces": True}
  path.write_text(json.dumps(said))
  assert vocabularies.beside(tmp_path / "t5").decode([4, 7]) == "a ."


def test_tokens_beside_a_tokenizer_json_have_their_ids(tmp_path):
  plain = _bpe(tmp_path / "plain")
  found = _bpe(tmp_path / "t5", added=[("<tone>", 7)])
  assert found.encode("a<tone>b") == [1, 4, 7, 5]
  assert found.size == 8
  assert found.identity != plain.identity
  with pytest.raises(ValueError, match=r"'<tone>' must have the id 9, gets 7"):
    _bpe(tmp_path / "gap", added=[("<tone>", 9)]).check()


def test_a_copy_is_the_same_tokenizer_and_another_is_refused(tmp_path):
  added = _with_pieces(tmp_path / "t5", added_tokens={"<tone>": 700})
  own = [vocabularies.beside(added), Bytes(7, (("<tone>", 300),))]
  own.append(_bpe(tmp_path / "bpe", added=[("<tone>", 7)]))
  kept = tmp_path / "kept"
  for tokenizer in own:
    vocabularies.keep_copy(tokenizer, kept)
  said = [json.loads(json.dumps(x.description)) for x in own]
  texts = [x.encode("ab <tone> a") for x in own]
  shutil.rmtree(added)
  shutil.rmtree(tmp_path / "bpe")
  for description, ids in zip(said, texts, strict=True):
    found = vocabularies.open_described(description, kept)
    assert found.encode("ab <tone> a") == ids
    assert found.identity == description["identity"]
    if description["kind"] != "bytes":
      with pytest.raises(ValueError, match="is neither at"):
        vocabularies.open_described(description, tmp_path)
    wrong = description | {"identity": "0" * 64}
    if description["kind"] == "bytes":
      with pytest.raises(ValueError, match="not the vocabulary these tokens"):
        vocabularies.open_described(wrong, kept)


@pytest.mark.parametrize(
  "path, kind",
  [
    ("bytes", Bytes),
    ("/data/bytes", Bytes),
    ("/t5/tokenizer.json", TokenizerJson),
    ("/t5/spiece.model", SentencePiece),
  ],
)
def test_a_path_names_a_tokenizer(path, kind):
  assert isinstance(vocabularies.named(path), kind)


def test_what_is_no_tokenizer_json_is_refused(tmp_path):
  pytest.importorskip("tokenizers")
  file = pathlib.Path(tmp_path / "tokenizer.json")
  file.write_text('{"version": "1.0"}')
  with pytest.raises(ValueError, match=r"tokenizer\.json is no tokenizer"):
    vocabularies.beside(tmp_path).check()


def test_a_library_that_is_not_installed_is_named(tmp_path, monkeypatch):
  monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)
  (tmp_path / "tokenizer.json").write_text("{}")
  tokenizer_json._load.cache_clear()
  with pytest.raises(ValueError, match="pip install 'tokenizers>="):
    vocabularies.beside(tmp_path).check()


def test_a_path_may_begin_at_home_and_bytes_is_no_folder(tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(tmp_path))
  shutil.copy(PIECES, tmp_path)
  assert vocabularies.named("~/spiece.model").size == 700
  monkeypatch.chdir(tmp_path)
  (tmp_path / "bytes").mkdir()
  assert vocabularies.named("bytes") == Bytes()
  own = Bytes(7)
  assert vocabularies.named_as("bytes", own.description) == own


@pytest.mark.parametrize("name", ["tokenizer_json_only", "no_extra_ids"])
def test_a_tokenizer_json_that_is_written_is_the_same_tokenizer(tmp_path, name):
  pytest.importorskip("tokenizers")
  own = vocabularies.beside(FAMILY / name)
  for file, content in vocabularies.written(own).items():
    (tmp_path / file).write_text(content)
  assert vocabularies.beside(tmp_path).identity == own.identity
