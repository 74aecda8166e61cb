"""Names, the folder and what is in memory: no T5 answers."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest

from hyperjax import adapters
from hyperjax.artifacts import adapter_folder
from hyperjax.artifacts.run_record import BackboneRef
from hyperjax.server import programs
from hyperjax.server.adapter_store import DRAFT, AdapterStore
from hyperjax.server.refusals import Refusal
from tests import testing


@pytest.fixture(scope="module")
def adapter():
  spec, config = adapters.LoraSpec(1), testing.CONFIG
  info = adapter_folder.Info(
    spec=spec,
    config=config,
    backbone=BackboneRef("a-t5", "/nowhere"),
    tokenizer=None,
    lengths={},
    origin={},
  )
  zeros = [np.zeros(leaf.shape, np.float32) for leaf in _leaves(spec)]
  structure = jax.tree.structure(spec.abstract(config))
  return adapter_folder.Adapter(info, jax.tree.unflatten(structure, zeros))


def _leaves(spec):
  return jax.tree.leaves(spec.abstract(testing.CONFIG))


def _prepare(adapter, where):
  if adapter.info.origin:
    raise ValueError(f"{where} is of another T5")
  return programs.Held(adapter.info, adapter.arrays, adapter)


@pytest.fixture
def held(adapter):
  return _prepare(adapter, "")


@pytest.fixture
def store(tmp_path):
  return AdapterStore(tmp_path / "adapters", _prepare, 2, 4, "t5")


NAMES = (
  "",
  ".",
  "..",
  "../x",
  "a/b",
  "/x",
  "a\0",
  "a\n",
  ".a",
  "-a",
  "a" * 101,
)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_could_leave_the_folder_is_none(store, held, name):
  (store.folder.parent / "x").mkdir()
  for ask in (store.get, store.delete):
    with pytest.raises(Refusal, match="must be a name"):
      ask(name)
  with pytest.raises(Refusal, match="must be a name"):
    store.keep(name, held, {})


def test_a_link_out_of_the_folder_is_no_adapter(store, adapter, tmp_path):
  adapter.save(tmp_path / "outside")
  (store.folder / "link").symlink_to(tmp_path / "outside")
  for ask in (store.get, store.delete):
    with pytest.raises(Refusal, match="no adapter 'link'"):
      ask("link")
  assert (tmp_path / "outside" / adapter_folder.INFO).is_file()


def test_the_last_used_are_in_memory_and_the_others_read_again(store, held):
  for name in "abc":
    store.keep(name, held, {})
  assert [store.at_hand(name) is None for name in "abc"] == [True, False, False]
  assert store.num_read == 0
  assert store.get("a").held.adapter.identity == held.adapter.identity
  assert store.num_read == 1
  # b was used least recently: c was written after it, and a has just been read.
  assert [store.at_hand(name) is None for name in "bca"] == [True, False, False]
  assert store.at_hand("c") is not None  # and so a goes next
  store.get("b")
  assert [store.at_hand(name) is None for name in "abc"] == [True, False, False]


def test_what_changes_in_the_folder_changes_here(store, held, adapter):
  store.keep("a", held, {})
  info = dataclasses.replace(adapter.info, lengths={"inputs": 3})
  changed = dataclasses.replace(adapter, info=info)
  changed.save(store.folder / "a", overwrite=True)
  assert store.get("a").held.info.lengths == {"inputs": 3}
  shutil.rmtree(store.folder / "a")
  with pytest.raises(Refusal, match="no adapter 'a'"):
    store.get("a")
  assert store.names() == {}


def test_an_adapter_of_another_t5_is_refused_with_what_is_wrong(store, adapter):
  info = dataclasses.replace(adapter.info, origin={"other": 1})
  dataclasses.replace(adapter, info=info).save(store.folder / "a")
  with pytest.raises(Refusal, match="'a' is of another T5") as refusal:
    store.get("a")
  assert refusal.value.status == 409


def test_a_broken_folder_is_refused_by_name(store, held):
  store.keep("a", held, {})
  (store.folder / "a" / adapter_folder.ARRAYS).write_bytes(b"nothing")
  (store.folder / "a" / adapter_folder.INFO).touch()
  with pytest.raises(Refusal, match=r"'a' cannot be used: .*adapter\.safeten"):
    store.get("a")


def test_no_more_adapters_are_kept_than_may_be(store, held):
  for name in "abcd":
    store.keep(name, held, {})
  with pytest.raises(Refusal, match="holds 4 adapters") as refusal:
    store.keep("e", held, {})
  assert refusal.value.status == 507 and sorted(store.names()) == list("abcd")
  store.keep("a", held, {}, overwrite=True)
  store.delete("a")
  store.keep("e", held, {})
  assert sorted(x.name for x in store.folder.iterdir()) == list("bcde")


def test_a_taken_name_is_not_written_over_unasked(store, held):
  store.keep("a", held, {})
  with pytest.raises(Refusal, match="overwrite: true"):
    store.keep("a", held, {})
  for name in ("t5", f"{DRAFT}1"):
    with pytest.raises(Refusal, match="not for adapters that are kept"):
      store.keep(name, held, {})


def test_the_oldest_draft_goes_first(store, held):
  names = [store.draft(held, {"number": i}) for i in range(65)]
  assert [store.at_hand(name) is None for name in names[:2]] == [True, False]
  assert store.get(names[-1]).facts == {"number": 64}
  assert list(store.folder.iterdir()) == []


def test_a_folder_that_cannot_be_read_is_named(store, held, caplog):
  store.folder.rename(store.folder.with_name("elsewhere"))
  for ask in (store.names, lambda: store.keep("a", held, {})):
    with pytest.raises(Refusal, match=f"{store.folder} cannot be") as refusal:
      ask()
    assert refusal.value.status == 500
  assert str(store.folder) in caplog.text


def test_what_is_listed_can_be_asked_and_the_rest_is_told(
  store, adapter, tmp_path
):
  for name in ("good", "my tone", "_x", "t5", f"{DRAFT}1"):
    adapter.save(store.folder / name)
  adapter.save(tmp_path / "outside")
  (store.folder / "link").symlink_to(tmp_path / "outside")
  (store.folder / "no adapter").mkdir()
  assert list(store.names()) == ["good"]
  assert store.get("good").stamp
  found = store.passed_over()
  assert list(found) == ["_x", f"{DRAFT}1", "link", "my tone", "t5"]
  assert "1 to 100 letters" in found["my tone"] and "links" in found["link"]


@pytest.mark.parametrize("name", ["t5", f"{DRAFT}1"])
def test_what_cannot_be_asked_is_not_deleted_either(store, adapter, name):
  adapter.save(store.folder / name)
  for ask in (store.get, store.delete):
    with pytest.raises(Refusal, match=f"no adapter '{name}'"):
      ask(name)
  assert (store.folder / name / adapter_folder.INFO).is_file()


def test_what_a_killed_delete_left_is_removed_at_the_next_start(store, held):
  store.keep("a", held, {})
  (store.folder / ".mine.deleted").mkdir()  # another's
  left = store.folder / ".b.c.abc_1234.deleted"
  (left / "b.c").mkdir(parents=True)
  AdapterStore(store.folder, _prepare, 2, 4, "t5")
  found = sorted(x.name for x in store.folder.iterdir())
  assert found == [".mine.deleted", "a"]


def test_a_draft_that_is_gone_is_forgotten_without_a_word(store, held):
  name = store.draft(held, {})
  for _ in range(2):
    store.forget(name)
  with pytest.raises(Refusal, match="no adapter"):
    store.get(name)
