"""What a step of training must do, in float64 numpy: losses, gradients, updates.

Written from the papers and the docstrings, without jax and without optax.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]


def chain_loss(
  params: Arrays,
  out_DV: np.ndarray,
  tokens_BT: np.ndarray,
  targets_BT: np.ndarray,
  weights_BT: np.ndarray,
  z_loss: float = 0.0,
  label_smoothing: float = 0.0,
) -> tuple[dict[str, float], Arrays]:
  """Metrics as sums, and the gradient of the summed loss.

  The model multiplies an embedding by each of its kernels, then by `out_DV`.
  """
  params = {name: np.asarray(x, np.float64) for name, x in params.items()}
  kernels_LDD = params["decoder/layers/kernel"]
  states = [params["embedding"][tokens_BT]]
  for kernel_DD in kernels_LDD:
    states.append(states[-1] @ kernel_DD)
  states[-1] = states[-1] + params["bias"]
  logits_BTV = states[-1] @ np.float64(out_DV)
  vocab = logits_BTV.shape[-1]
  log_z_BT = np.log(np.exp(logits_BTV).sum(-1))
  log_p_BTV = logits_BTV - log_z_BT[..., None]
  is_target_BTV = np.arange(vocab) == targets_BT[..., None]
  q_BTV = np.where(
    is_target_BTV, 1 - label_smoothing, label_smoothing / (vocab - 1)
  )
  entropy = -sum(x * np.log(x) for x in q_BTV[0, 0] if x)
  loss_BT = -(q_BTV * log_p_BTV).sum(-1) - entropy + z_loss * log_z_BT**2
  right_BT = logits_BTV.argmax(-1) == targets_BT
  sums = {
    "loss": (loss_BT * weights_BT).sum(),
    "cross_entropy": -(log_p_BTV[is_target_BTV] * weights_BT.reshape(-1)).sum(),
    "token_accuracy": (right_BT * weights_BT).sum(),
    "weight": weights_BT.sum(),
  }
  p_BTV = np.exp(log_p_BTV)
  grad = p_BTV - q_BTV + 2 * z_loss * log_z_BT[..., None] * p_BTV
  grad = (grad * weights_BT[..., None]) @ np.float64(out_DV).T
  grads: Arrays = {"bias": grad.sum((0, 1))}
  of_kernels = []
  for kernel_DD, before in zip(kernels_LDD[::-1], states[-2::-1], strict=True):
    of_kernels.append(np.einsum("btd,bte->de", before, grad))
    grad = grad @ kernel_DD.T
  grads["decoder/layers/kernel"] = np.stack(of_kernels[::-1])
  grads["embedding"] = np.zeros_like(params["embedding"])
  np.add.at(grads["embedding"], tokens_BT, grad)
  return sums, grads


def norm(grads: Mapping[str, np.ndarray]) -> float:
  """Of all gradients together."""
  return float(np.sqrt(sum(np.sum(x**2) for x in grads.values())))


def clip(grads: Arrays, most: float | None) -> Arrays:
  """Gradients shrunk to a global norm, where theirs is larger."""
  if most is None:
    return grads
  factor = min(1.0, most / norm(grads))
  return {name: x * factor for name, x in grads.items()}


@dataclasses.dataclass
class AdamW:
  """Kingma and Ba, 2015; Loshchilov and Hutter, 2019."""

  rates: Sequence[float]  # of each step
  b1: float = 0.9
  b2: float = 0.999
  eps: float = 1e-8
  weight_decay: float = 0.0
  clip_norm: float | None = 1.0
  slots: dict[tuple[str, str], Any] = dataclasses.field(default_factory=dict)
  steps: int = 0

  def update(self, params: Arrays, grads: Arrays) -> Arrays:
    grads, rate = clip(grads, self.clip_norm), self.rates[self.steps]
    self.steps += 1
    found = {}
    for name, grad in grads.items():
      m = self.b1 * self.slots.get(("mu", name), 0) + (1 - self.b1) * grad
      v = self.b2 * self.slots.get(("nu", name), 0) + (1 - self.b2) * grad**2
      self.slots["mu", name], self.slots["nu", name] = m, v
      m_hat, v_hat = (
        m / (1 - self.b1**self.steps),
        v / (1 - self.b2**self.steps),
      )
      step = m_hat / (np.sqrt(v_hat) + self.eps)
      step = step + self.weight_decay * params[name]
      found[name] = params[name] - rate * step
    return found


@dataclasses.dataclass
class Adafactor:
  """Shazeer and Stern, 2018, algorithms 4 and 5; each stacked layer by itself."""

  rates: Sequence[float]
  decay_rate: float = 0.8
  clipping_threshold: float | None = 1.0
  multiply_by_parameter_scale: bool = True
  momentum: float | None = None
  min_dim_size_to_factor: int = 128
  clip_norm: float | None = None
  slots: dict[tuple[str, str], Any] = dataclasses.field(default_factory=dict)
  steps: int = 0

  def update(self, params: Arrays, grads: Arrays) -> Arrays:
    grads, rate = clip(grads, self.clip_norm), self.rates[self.steps]
    self.steps += 1
    found = {}
    for name, grad in grads.items():
      if "/layers/" not in name:
        found[name] = self._single(params[name], grad, rate, name)
        continue
      layers = [
        self._single(params[name][i], grad[i], rate, f"{name}[{i}]")
        for i in range(len(grad))
      ]
      found[name] = np.stack(layers)
    return found

  def _single(self, param, grad, rate, name) -> np.ndarray:
    decay = 1 - self.steps**-self.decay_rate
    squares = grad**2 + 1e-30

    def average(slot: str, new: np.ndarray) -> np.ndarray:
      mean = decay * self.slots.get((slot, name), 0) + (1 - decay) * new
      self.slots[slot, name] = mean
      return mean

    sizes = sorted(param.shape)
    if param.ndim > 1 and sizes[-2] >= self.min_dim_size_to_factor:
      rows = average("rows", squares.mean(1))[:, None]
      columns = average("columns", squares.mean(0))[None]
      step = grad / np.sqrt(rows * columns / rows.mean())
    else:
      step = grad / np.sqrt(average("v", squares))
    if self.clipping_threshold is not None:
      step = step / max(1.0, _rms(step) / self.clipping_threshold)
    step = step * rate
    if self.multiply_by_parameter_scale:
      step = step * max(1e-3, _rms(param))
    if self.momentum is not None:
      before = self.slots.get(("ema", name), 0)
      step = self.momentum * before + (1 - self.momentum) * step
      self.slots["ema", name] = step
    return param - step


def _rms(x: np.ndarray) -> float:
  return float(np.sqrt(np.mean(x**2)))
