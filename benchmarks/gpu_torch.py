"""The same T5s in torch with transformers: greedy decoding and a training step.

Run by `benchmarks.gpu --torch=PYTHON`, in that Python; nothing of this package is
imported. bfloat16 by autocast for training, as it is for decoding.
"""

import argparse
import json
import statistics
import time

import torch  # pyright: ignore[reportMissingImports]: of another environment
import transformers  # pyright: ignore[reportMissingImports]

REPEATS, WINDOW = 3, 3
FULL = {
  "large": (32128, 1024, 16, 64, 2816, 24),
  "base": (32128, 768, 12, 64, 2048, 12),
  "lengths": (512, 128, 64, 32),
}
TINY = {
  "large": (256, 32, 2, 16, 64, 2),
  "base": (256, 32, 2, 16, 64, 2),
  "lengths": (16, 8, 4, 8),
}
SIZES = {"full": FULL, "tiny": TINY}


def model(sizes, device, dtype):
  vocab, width, heads, head, mlp, layers = sizes
  config = transformers.T5Config(
    vocab_size=vocab,
    d_model=width,
    num_heads=heads,
    d_kv=head,
    d_ff=mlp,
    num_layers=layers,
    num_decoder_layers=layers,
    feed_forward_proj="gated-gelu",
    tie_word_embeddings=False,
    dropout_rate=0.0,
    decoder_start_token_id=0,
    eos_token_id=vocab - 1,
  )
  torch.manual_seed(0)
  return transformers.T5ForConditionalGeneration(config).to(device, dtype)


def ids(rows, length, vocab, device):
  return torch.randint(2, vocab - 2, (rows, length), device=device)


def decode(own, device):
  inputs, _, positions, rows = own["lengths"]
  t5 = model(own["large"], device, torch.bfloat16).eval()
  tokens = ids(rows, inputs, own["large"][0], device)

  def work():
    with torch.inference_mode():
      t5.generate(
        tokens,
        max_new_tokens=positions,
        min_new_tokens=positions,
        do_sample=False,
        num_beams=1,
      )

  return work, rows * positions


def tune(own, device, is_compiled):
  inputs, targets, _, rows = own["lengths"]
  t5 = model(own["base"], device, torch.float32).train()
  batch = {
    "input_ids": ids(rows, inputs, own["base"][0], device),
    "labels": ids(rows, targets, own["base"][0], device),
  }
  optimizer = torch.optim.AdamW(
    t5.parameters(), lr=1e-4, fused=device == "cuda"
  )
  loss_of = torch.compile(t5) if is_compiled else t5

  def work():
    with torch.autocast(device, torch.bfloat16):
      loss = loss_of(**batch).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)

  return work, rows * (inputs + targets)


def timed(work, device):
  start = time.perf_counter()
  for _ in range(WINDOW):
    work()
  if device == "cuda":
    torch.cuda.synchronize()
  return time.perf_counter() - start


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--case", required=True)
  parser.add_argument("--size", choices=SIZES, required=True)
  parser.add_argument("--device", required=True)
  args = parser.parse_args()
  own = SIZES[args.size]
  if args.case == "decode":
    work, tokens = decode(own, args.device)
  else:
    work, tokens = tune(own, args.device, args.case.endswith("compiled"))
  first = timed(work, args.device)
  taken = [timed(work, args.device) / WINDOW for _ in range(REPEATS)]
  seconds = statistics.median(taken)
  peak = None
  if args.device == "cuda":
    peak = torch.cuda.max_memory_allocated()
  print(
    json.dumps(
      {
        "case": f"torch {args.case}",
        "first_s": first,
        "seconds": seconds,
        "all_seconds": taken,
        "tokens_per_s": tokens / seconds,
        "peak_bytes": peak,
        "device": args.device,
      }
    )
  )


if __name__ == "__main__":
  main()
