"""Makes hf_tiny, t5_beams and t5_family: tiny T5s, and what others compute of them.

    .venv-interop/bin/python tests/data/make_hf_models.py FOLDER

A model that lies in the folder already is kept, with its tokens: only what
transformers and peft compute of it is written again.
"""

import itertools
import json
import pathlib
import sys
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]: of the interop environment
from peft import (  # pyright: ignore[reportMissingImports]: as torch
  LoraConfig,
  PeftModel,
  get_peft_model,
)
from transformers import (  # pyright: ignore[reportMissingImports]: as torch
  T5Config,
  T5ForConditionalGeneration,
)

T5_1_0 = {"feed_forward_proj": "relu", "tie_word_embeddings": True}
T5_1_1 = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
SIZES = {
  "d_model": 32,
  "d_ff": 64,
  "num_layers": 2,
  "num_decoder_layers": 2,
  "dropout_rate": 0.0,
  "decoder_start_token_id": 0,
}
HF_TINY = SIZES | {"vocab_size": 160, "d_kv": 16, "num_heads": 2}
BEAMS = SIZES | {"vocab_size": 14, "d_kv": 8, "num_heads": 4}
BASE = SIZES | {
  "vocab_size": 131,
  "d_ff": 48,
  "d_kv": 8,
  "num_heads": 4,
  "num_decoder_layers": 3,
}
LORA = {
  "lora_qv": {"r": 4, "lora_alpha": 8, "target_modules": ["q", "v"]},
  "lora_all_linear": {
    "r": 3,
    "lora_alpha": 5,
    "target_modules": ["q", "k", "v", "o", "wi_0", "wi_1", "wo"],
  },
}


def t5(folder: pathlib.Path, seed: int, settings: dict[str, Any]) -> Any:
  """The T5 of a folder; where there is none, one of random weights."""
  if not (folder / "model.safetensors").exists():
    model = T5ForConditionalGeneration(T5Config(**settings))
    _draw(model, seed)
    model.save_pretrained(folder)
    if not settings["tie_word_embeddings"]:
      # transformers 5 leaves it out, as the public T5 1.1 do not.
      _say(folder / "config.json", tie_word_embeddings=False)
  model = T5ForConditionalGeneration.from_pretrained(folder)
  return model.float().eval()


def _draw(model: Any, seed: int) -> None:
  """Weights far enough from each other that every one of them matters."""
  torch.manual_seed(seed)
  with torch.no_grad():
    for name, array in model.named_parameters():
      if "layer_norm" in name:
        array.copy_(1 + 0.2 * torch.randn(array.shape))
      else:
        array.copy_(0.25 * torch.randn(array.shape))


def _say(file: pathlib.Path, **changed: Any) -> None:
  facts = json.loads(file.read_text()) | changed
  file.write_text(json.dumps(dict(sorted(facts.items())), indent=1) + "\n")


def _tokens(seed: int, vocab_size: int, width: int, lengths: list[int]) -> Any:
  """Rows that end in 1, then padding."""
  drawn = np.random.default_rng(seed).integers(2, vocab_size, (4, width))
  for row, length in zip(drawn, lengths, strict=True):
    row[length - 1 :] = 0
    row[length - 1] = 1
  return drawn.astype(np.int32)


def _batch(file: pathlib.Path, seed: int) -> dict[str, Any]:
  if file.exists():
    return dict(np.load(file))
  targets = _tokens(seed + 1, 160, 8, [8, 5, 7, 3])
  return {
    "encoder_input_tokens": _tokens(seed, 160, 19, [19, 13, 7, 16]),
    "decoder_target_tokens": targets,
    "decoder_input_tokens": np.pad(targets, ((0, 0), (1, 0)))[:, :-1],
  }


def expect(folder: pathlib.Path, seed: int, settings: dict[str, Any]) -> None:
  """Writes logits, encoder output, score, gradients' norms and decodes."""
  model = t5(folder, seed, HF_TINY | settings)
  stored = _batch(folder / "expected.npz", seed)
  inputs, shifted, targets = (
    torch.tensor(stored[name], dtype=torch.long)
    for name in (
      "encoder_input_tokens",
      "decoder_input_tokens",
      "decoder_target_tokens",
    )
  )
  mask = (inputs > 0).long()
  found = model(
    input_ids=inputs, attention_mask=mask, decoder_input_ids=shifted
  )
  log_probs = found.logits.log_softmax(dim=-1)
  picked = log_probs.gather(-1, targets[..., None])[..., 0]
  score = (picked * (targets > 0)).sum(dim=1)
  (-score.sum()).backward()
  norms = {
    name: float(array.grad.norm()) for name, array in model.named_parameters()
  }
  (folder / "grad_norms.json").write_text(json.dumps(norms, indent=1) + "\n")
  stored |= {
    "logits": found.logits.detach().numpy(),
    "encoded": found.encoder_last_hidden_state.detach().numpy(),
    "score": score.detach().numpy(),
  }
  for name, num_beams in (("greedy_12", 1), ("beam4_12", 4)):
    stored[name] = (
      model.generate(
        input_ids=inputs,
        attention_mask=mask,
        max_new_tokens=12,
        do_sample=False,
        num_beams=num_beams,
        **({"early_stopping": True} if num_beams > 1 else {}),
      )
      .numpy()
      .astype(np.int32)
    )
  np.savez(folder / "expected.npz", **stored)


def expect_beams(folder: pathlib.Path) -> None:
  """Writes what beam search finds under every setting, a line for each."""
  file = folder / "expected.jsonl"
  known = {}
  if file.exists():
    for line in map(json.loads, file.read_text().splitlines()):
      known[line["model"]] = line["input_ids"]
  lines = []
  for seed in range(4):
    model = t5(folder / str(seed), seed, BEAMS | T5_1_1)
    drawn = np.random.default_rng(seed).integers(2, 14, (8, 7))
    drawn *= np.arange(7) < 7 - np.arange(8)[:, None] % 4
    inputs = torch.tensor(known.get(str(seed), drawn.tolist()))
    for num_beams, penalty, is_early in itertools.product(
      (2, 3, 4), (-1.0, 0.0, 0.6, 1.0, 2.0), (True, False)
    ):
      setting = {
        "num_beams": num_beams,
        "length_penalty": penalty,
        "early_stopping": is_early,
      }
      found = model.generate(
        input_ids=inputs,
        attention_mask=(inputs > 0).long(),
        max_new_tokens=10,
        do_sample=False,
        output_scores=True,
        return_dict_in_generate=True,
        **setting,
      )
      lines.append(
        {"model": str(seed), **setting, "input_ids": inputs.tolist()}
        | {"sequences": found.sequences[:, 1:].tolist()}
        | {"sequences_scores": found.sequences_scores.tolist()}
      )
  file.write_text("".join(json.dumps(line) + "\n" for line in lines))


def expect_lora(folder: pathlib.Path) -> None:
  """Writes the logits of a T5 alone, and with each of peft's LoRA on it."""
  file = folder / "base" / "expected.npz"
  base = t5(folder / "base", 10, BASE | T5_1_1)
  if file.exists():
    stored = dict(np.load(file))
  else:
    encoder = _tokens(10, 131, 14, [14, 10, 6, 1])
    stored = {
      "encoder_input_tokens": encoder,
      "attention_mask": (encoder > 0).astype(np.int32),
      "decoder_input_tokens": _tokens(11, 131, 7, [7] * 4),
    }
  tokens = {
    name: torch.tensor(stored[own], dtype=torch.long)
    for name, own in (
      ("input_ids", "encoder_input_tokens"),
      ("attention_mask", "attention_mask"),
      ("decoder_input_ids", "decoder_input_tokens"),
    )
  }
  with torch.no_grad():
    stored["logits"] = base(**tokens).logits.numpy()
    # The cache is made for as many layers as the encoder has.
    greedy = base.generate(
      tokens["input_ids"],
      attention_mask=tokens["attention_mask"],
      max_new_tokens=10,
      do_sample=False,
      use_cache=False,
    )
  stored["greedy_10"] = greedy.numpy().astype(np.int32)
  np.savez(file, **stored)
  for seed, (name, settings) in enumerate(LORA.items()):
    own = folder / name
    fresh = t5(folder / "base", 10, BASE | T5_1_1)
    if not own.exists():
      config = LoraConfig(task_type="SEQ_2_SEQ_LM", **settings)
      adapted = get_peft_model(fresh, config)
      torch.manual_seed(seed)
      with torch.no_grad():
        for path, array in adapted.named_parameters():
          if "lora_" in path:
            array.copy_(0.2 * torch.randn(array.shape))
      adapted.save_pretrained(own)
      (own / "README.md").unlink(missing_ok=True)
      _say(own / "adapter_config.json", base_model_name_or_path="../base")
      fresh = t5(folder / "base", 10, BASE | T5_1_1)
    adapted = PeftModel.from_pretrained(fresh, str(own)).eval()
    with torch.no_grad():
      logits = adapted(**tokens).logits.numpy()
    np.savez(own / "expected.npz", logits=logits)


if __name__ == "__main__":
  where = pathlib.Path(sys.argv[1])
  expect(where / "hf_tiny" / "t5_1_0", 0, T5_1_0)
  expect(where / "hf_tiny" / "t5_1_1", 1, T5_1_1)
  expect_beams(where / "t5_beams")
  expect_lora(where / "t5_family" / "peft")
