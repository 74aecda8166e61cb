"""The same prompts by peft: batches whose rows have adapters of their own.

Run by `benchmarks.load` in an environment that has torch, transformers and peft. Reads
a folder: `t5` as Hugging Face has it, `adapters/NAME` as peft has them, `asked.json`
with ids, names and the most tokens of an answer.
"""

import argparse
import json
import pathlib
import time

import torch  # pyright: ignore[reportMissingImports]: of another environment
from peft import PeftModel  # pyright: ignore[reportMissingImports]: the same
from transformers import (  # pyright: ignore[reportMissingImports]: the same
  T5ForConditionalGeneration,
)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("folder", type=pathlib.Path)
  parser.add_argument("--seconds", type=float, default=20.0)
  parser.add_argument("--batch_size", type=int, default=64)
  given = parser.parse_args()
  asked = json.loads((given.folder / "asked.json").read_text())
  model = T5ForConditionalGeneration.from_pretrained(given.folder / "t5").eval()
  first, *others = sorted(
    path for path in (given.folder / "adapters").iterdir()
  )
  # Named as a module may be: peft makes a module of each.
  of = {path.name: f"a{i}" for i, path in enumerate([first, *others])}
  model = PeftModel.from_pretrained(model, first, adapter_name=of[first.name])
  for path in others:
    model.load_adapter(path, adapter_name=of[path.name])
  model.eval()
  size, answers = given.batch_size, []

  def batch(index: int) -> torch.Tensor:
    rows = [
      asked["rows"][(index * size + i) % len(asked["rows"])]
      for i in range(size)
    ]
    longest = max(len(row["ids"]) for row in rows)
    ids = torch.tensor(
      [row["ids"] + [0] * (longest - len(row["ids"])) for row in rows]
    )
    with torch.inference_mode():
      return model.generate(
        input_ids=ids,
        attention_mask=(ids != 0).long(),
        adapter_names=[of[row["adapter"]] for row in rows],
        max_new_tokens=asked["max_tokens"],
        do_sample=False,
        num_beams=1,
      )

  answers = batch(0)[:, 1:].tolist()  # compiled, cached and warm
  done, began = 0, time.perf_counter()
  while (taken := time.perf_counter() - began) < given.seconds:
    batch(done + 1)
    done += 1
  print(
    json.dumps({"rows_per_second": done * size / taken, "answers": answers})
  )


if __name__ == "__main__":
  main()
