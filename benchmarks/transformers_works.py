"""The works of `benchmarks.t5x` in torch, by transformers: the same T5 and tokens."""

import functools
import os
from collections.abc import Callable
from typing import Any

import torch  # pyright: ignore[reportMissingImports]: of the interop environment
import transformers  # pyright: ignore[reportMissingImports]

from benchmarks import t5x


def works() -> dict[str, Callable[[], Any]]:
  """A train step with torch's Adafactor, a forward pass, greedy decoding."""
  torch.set_num_threads(len(os.sched_getaffinity(0)))
  torch.manual_seed(0)
  sizes = t5x.SMALL
  config = transformers.T5Config(
    vocab_size=sizes["vocab_size"],
    d_model=sizes["emb_dim"],
    num_heads=sizes["num_heads"],
    d_kv=sizes["head_dim"],
    d_ff=sizes["mlp_dim"],
    num_layers=sizes["num_encoder_layers"],
    num_decoder_layers=sizes["num_decoder_layers"],
    feed_forward_proj="gated-gelu",
    tie_word_embeddings=False,
    dropout_rate=0.0,
    decoder_start_token_id=0,
    eos_token_id=t5x.NEVER_WRITTEN,
  )
  t5 = transformers.T5ForConditionalGeneration(config).eval()
  inputs, shifted, targets = (
    torch.tensor(ids, dtype=torch.long) for ids in t5x.tokens()
  )
  optimizer = torch.optim.Adafactor(t5.parameters(), lr=1e-3)
  both = {"input_ids": inputs, "decoder_input_ids": shifted}

  def train() -> float:
    loss = t5(**both, labels=targets).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.item()

  @torch.inference_mode()
  def forward() -> Any:
    return t5(**both).logits.numpy()

  decode = functools.partial(
    t5.generate,
    inputs,
    max_new_tokens=t5x.DECODED,
    min_new_tokens=t5x.DECODED,
    do_sample=False,
    num_beams=1,
  )
  return {
    "train": train,
    "forward": forward,
    "decode": lambda: decode().numpy(),
  }
