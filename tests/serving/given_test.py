"""What Python programs give instead of lists of pairs and adapters."""

import pathlib

import pytest

import hyperjax
from hyperjax.serving import given
from hyperjax.serving.examples import Example
from tests import served_example

PAIRS = served_example.pairs(7)


@pytest.fixture(scope="module")
def model(served):
  return hyperjax.load(served / "lora")


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
  folder = tmp_path_factory.mktemp("adapters") / "one"
  model.adapt(PAIRS).save(folder)
  return folder


def test_pairs_mappings_and_a_file_are_the_same_examples(tmp_path):
  pairs = [("a b", "c"), ("d", "e, f")]
  (tmp_path / "e.csv").write_text('input,output\na b,c\nd,"e, f"\n')
  for other in (
    [list(pair) for pair in pairs],
    [{"output": y, "input": x, "id": "7"} for x, y in pairs],
    [Example(*pair) for pair in pairs],
  ):
    assert [(e.input, e.output) for e in given.as_examples(other)] == pairs
  for file in (tmp_path / "e.csv", str(tmp_path / "e.csv")):
    assert [(e.input, e.output) for e in given.as_examples(file)] == pairs


def test_a_first_row_that_may_be_a_header_is_warned_of(tmp_path):
  (tmp_path / "e.csv").write_text("Frage,Antwort\na,b\n")
  with pytest.warns(UserWarning, match="line 1, is no header"):
    found = given.as_examples(tmp_path / "e.csv")
  assert [x.input for x in found] == ["Frage", "a"]


@pytest.mark.parametrize(
  "wrong, message",
  [
    ("dear sir", "or a file of them; there is no file dear sir"),
    (["ab"], r"examples\[0\] must be a pair of texts.*got 'ab'"),
    ([("a", "b"), ("a", 3)], r"examples\[1\] must be a pair.*got \('a', 3\)"),
    ([("a", "b", "c")], r"examples\[0\] must be a pair"),
    ([{"input": "a"}], r"examples\[0\] must be a pair.*got {'input': 'a'}"),
    ({"input": "a", "output": "b"}, "got one dict: put it into a list"),
    (Example("a", "b"), "got one Example: put it into a list"),
    (None, "or a file of them; got None"),
  ],
)
def test_what_is_no_list_of_pairs_is_refused(wrong, message):
  with pytest.raises(ValueError, match=message):
    given.as_examples(wrong)


def test_inputs_and_examples_may_come_one_by_one(model, folder):
  asked = served_example.questions()[:2]
  answers = model.predict((x for x in asked), folder)
  assert answers == model.predict(asked, folder)
  assert model.adapt(iter(PAIRS)).identity == model.adapt(PAIRS).identity


def test_the_path_of_an_adapter_answers_as_the_adapter(model, folder):
  asked = served_example.questions()[:2]
  adapter = hyperjax.read_adapter(folder)
  mixed = given.as_adapters([str(folder), adapter, folder])
  assert isinstance(mixed, list)
  assert [x.identity for x in mixed] == [adapter.identity] * 3
  assert model.predict(asked, folder) == model.predict(asked, adapter)


def test_what_is_no_adapter_and_no_list_of_inputs_is_refused(model, folder):
  with pytest.raises(ValueError, match=r"got one text: give \['alice'\]"):
    model.predict("alice", folder)
  with pytest.raises(ValueError, match=r"inputs\[1\] must be a text; got 3"):
    model.predict(["alice", 3], folder)
  for wrong in (None, b"alice", {"input": "alice"}):
    with pytest.raises(ValueError, match="inputs must be a list of texts; got"):
      model.predict(wrong, folder)
  with pytest.raises(ValueError, match="its folder; got 7"):
    model.predict(["alice"], 7)
  with pytest.raises(ValueError, match="nowhere: there is no such adapter"):
    model.predict(["alice"], pathlib.Path("nowhere"))


def test_a_model_and_an_adapter_are_shown_in_a_line(model, folder, served):
  adapter = hyperjax.read_adapter(folder)
  identity = adapter.info.backbone.identity[:16]
  rank = served_example.SPECS["lora"].rank
  own = f"LoRA of rank {rank}"
  assert repr(adapter) == f"Adapter({own}, 3 examples, for T5 {identity})"
  assert repr(model) == f"Model('{served / 'lora'}', step 6, {own})"


def test_the_package_offers_what_the_modules_have():
  from hyperjax import serving
  from hyperjax.artifacts import adapter_folder

  assert hyperjax.Model is serving.Model
  assert hyperjax.Adapter is adapter_folder.Adapter
  assert {"load", "Model", "Adapter", "read_adapter"} <= set(dir(hyperjax))
  with pytest.raises(AttributeError, match="no attribute 'nothing'"):
    _ = hyperjax.nothing
