"""What a comparison lets pass, and what not."""

import sys
import types
import warnings

import numpy as np
import pytest

from hyperjax.interop import verify
from tests import adapter_example, testing

TOKENS = verify.draw_tokens(testing.CONFIG)
PLAIN = np.array([[[3.0, -5.0, 0.5]]], np.float32)
ADAPTED = np.array([[[3.0, -4.0, 0.5]]], np.float32)
REFERENCE = verify.Reference(TOKENS, PLAIN, ADAPTED)


def test_inputs_are_of_several_lengths_and_valid():
  encoder, decoder = TOKENS
  assert (encoder > 0).sum(axis=1).tolist() == [150, 61, 17, 1]
  assert encoder.max() < 40 and decoder.max() < 40
  assert (decoder[:, 0] == 0).all() and (decoder[:, 1:] > 0).all()


def test_a_small_difference_passes_and_is_said():
  said = verify.compare(ADAPTED + 3e-4, REFERENCE, "torch")
  assert "torch and of HyperJAX differ by at most 3.0e-04" in said
  assert "changes them by up to 1.0e+00, the largest is 4.0e+00" in said


@pytest.mark.parametrize("error", [5e-4, float("nan"), float("inf")])
def test_a_larger_difference_does_not(error):
  with pytest.raises(ValueError, match="the export is wrong"):
    verify.compare(ADAPTED + np.float32(error), REFERENCE, "torch")


def test_an_export_that_does_nothing_is_found_even_if_little_was_to_be_done():
  close = verify.Reference(TOKENS, PLAIN, PLAIN + np.float32(5e-5))
  with pytest.raises(ValueError, match="told from one that does nothing"):
    verify.compare(PLAIN, close, "torch")
  verify.compare(close.adapted, close, "torch")
  # A tenth of what the adapter does, and just over it.
  verify.compare(close.adapted - np.float32(4e-6), close, "torch")
  with pytest.raises(ValueError, match=r"changes them by 4\.4e-05"):
    verify.compare(close.adapted - np.float32(6e-6), close, "torch")


def test_rounding_may_cost_a_tenth_of_what_the_adapter_does():
  said = verify.rounded(ADAPTED + 0.09, REFERENCE, "bfloat16")
  assert "to bfloat16 changes logits by up to 9.0e-02" in said
  with pytest.raises(ValueError, match="too little of the adapter is left"):
    verify.rounded(ADAPTED + 0.11, REFERENCE, "bfloat16")


def test_an_adapter_that_changes_nothing_cannot_be_verified(tmp_path):
  source = adapter_example.backbone(tmp_path / "t5", testing.CONFIG)
  nothing = adapter_example.adapter(source, scale=0.0).arrays
  with pytest.raises(ValueError, match=r"changes no logit .* --no-verify"):
    verify.reference(source, nothing)


class _Logging:
  """transformers.utils.logging, as far as it is used."""

  def __init__(self):
    self.level, self.has_bar = 20, True

  def get_verbosity(self):
    return self.level

  def set_verbosity(self, level):
    self.level = level

  def set_verbosity_error(self):
    self.level = 40

  def disable_progress_bar(self):
    self.has_bar = False

  def enable_progress_bar(self):
    self.has_bar = True


def test_transformers_is_quiet_only_while_it_loads(monkeypatch):
  log = _Logging()
  utils = types.SimpleNamespace(logging=log)
  transformers = types.SimpleNamespace(utils=utils)
  monkeypatch.setitem(sys.modules, "transformers", transformers)
  with warnings.catch_warnings(record=True) as heard:
    warnings.simplefilter("always")
    with pytest.raises(RuntimeError), verify._quiet():
      warnings.warn("not used", stacklevel=1)
      assert (log.level, log.has_bar) == (40, False)
      raise RuntimeError
    assert (log.level, log.has_bar) == (20, True)
    warnings.warn("heard", stacklevel=1)
  assert [str(x.message) for x in heard] == ["heard"]


@pytest.mark.parametrize(
  "found, message",
  [
    (["a", "b"], None),
    (["a"], r"the T5 that PEFT makes also has b \(1 such\)"),
    (["a", "b", "c", "d"], r"makes has no array for c \(2 such\)"),
  ],
)
def test_peft_has_the_very_arrays_of_the_folder(
  monkeypatch, tmp_path, found, message
):
  def state_dict(model, save_embedding_layers):
    assert model == ("adapted", "T5", str(tmp_path))
    assert not save_embedding_layers
    return dict.fromkeys("ab")

  def load(folder, device):
    assert (folder, device) == (str(tmp_path), "cpu")
    return dict.fromkeys(found)

  peft = types.SimpleNamespace(
    PeftModel=types.SimpleNamespace(
      from_pretrained=lambda model, folder: ("adapted", model, folder)
    ),
    get_peft_model_state_dict=state_dict,
    utils=types.SimpleNamespace(load_peft_weights=load),
  )
  monkeypatch.setitem(sys.modules, "peft", peft)
  if message is None:
    assert verify._with_peft("T5", tmp_path) == ("adapted", "T5", str(tmp_path))
  else:
    with pytest.raises(ValueError, match=message):
      verify._with_peft("T5", tmp_path)


def test_libraries_that_are_lacking_are_named_and_others_with_their_versions():
  assert verify.missing(["numpy", "no_such_library"]) == ["no_such_library"]
  assert verify.versions(["numpy"]) == f"numpy {np.__version__}"
  assert verify.versions([]) == ""
