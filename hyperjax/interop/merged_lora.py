"""LoRA by the kernel that it changes, and a T5 with it merged."""

import dataclasses
from typing import Any

import numpy as np

from hyperjax import adapters
from hyperjax.interop import weights


def by_kernel(written: adapters.Adapters) -> dict[str, adapters.Lora]:
  """LoRA of one context by the name of its layer's kernel, t5x's unscanned.

  Such as "encoder/layers_0/attention/query/kernel"; `down` is [in, R], `up`
  [R, out].

  Raises:
    ValueError: they are no LoRA, or not of one context.
  """
  contexts = adapters.num_contexts(written)
  if contexts != 1:
    raise ValueError(
      f"one context's LoRA is exported at a time, these are {contexts or 0}"
    )
  leaves = adapters.path_leaves(written)
  found = {}
  for path, down_LDR in leaves.items():
    stack, *site, kind = path.split(".")
    if kind == "up":
      continue
    if kind != "down":
      raise ValueError(f"{path} is no LoRA: no kernel can carry it")
    up_LRF = leaves[path.removesuffix("down") + "up"]
    for i, (down_CDR, up_CRF) in enumerate(zip(down_LDR, up_LRF, strict=True)):
      name = "/".join((stack, f"layers_{i}", *site, "kernel"))
      found[name] = adapters.Lora(
        np.asarray(down_CDR[0]), np.asarray(up_CRF[0])
      )
  return found


def merged(
  source: weights.T5Source, written: adapters.Adapters
) -> weights.T5Source:
  """`source` with each LoRA added to its kernel as the kernel is read.

  The sum is taken in float32, then stored in the kernel's own dtype.

  Raises:
    ValueError: as for `by_kernel`, or a kernel is not there.
  """
  updates = by_kernel(written)
  missing = sorted(updates.keys() - source.shapes.keys())
  if missing:
    raise ValueError(f"{source.path} has no {missing[0]} for its LoRA")

  def read(name: str) -> np.ndarray:
    kernel = source.read(name)
    if name not in updates:
      return kernel
    update: Any = updates[name]
    down_DR, up_RF = update.down, update.up
    update_DF = down_DR.astype(np.float32) @ up_RF.astype(np.float32)
    return (kernel.astype(np.float32) + update_DF).astype(kernel.dtype)

  return dataclasses.replace(source, read=read, at_hand={})
