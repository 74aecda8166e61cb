"""PEFT's adapter_config.json: what it says of each module of a T5.

A setting that changes what is computed, and that HyperJAX's adapters cannot hold,
is refused by its name; so is one that this page does not know.
"""

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

LORA, IA3 = "LORA", "IA3"
HEAD = "lm_head"

_MERGED = (
  "merge it into its T5 in PEFT (merge_and_unload, save_pretrained), and take "
  "that T5 (`hyperjax import`)"
)
# What changes how something was trained or found, not what it computes.
_IDLE = {
  "auto_mapping",
  "base_model_name_or_path",
  "corda_config",
  "ensure_weight_tying",
  "eva_config",
  # Of Conv1D; PEFT itself ignores it for the linear modules of a T5.
  "fan_in_fan_out",
  "inference_mode",
  "init_ia3_weights",
  "loftq_config",
  "lora_dropout",
  "lora_ga_config",
  "megatron_config",
  "megatron_core",
  "peft_type",
  "peft_version",
  "qalora_group_size",
  "revision",
  "runtime_config",
}
_READ = {
  "alpha_pattern",
  "exclude_modules",
  "feedforward_modules",
  "init_lora_weights",
  "layers_pattern",
  "layers_to_transform",
  "lora_alpha",
  "r",
  "rank_pattern",
  "target_modules",
  "task_type",
  "use_rslora",
}
_REASONS = {
  "alora_invocation_tokens": "an activated LoRA acts from some token on only",
  "arrow_config": "Arrow chooses between adapters for each token",
  "bias": "a T5 has no biases, and HyperJAX's adapters none",
  "layer_replication": "it repeats layers of the T5",
  "lora_bias": "HyperJAX's LoRA has no bias",
  "modules_to_save": "it holds whole modules, which are no adapter",
  "target_parameters": "it changes parameters that are no modules",
  "trainable_token_indices": "it changes rows of the embedding",
  "use_dora": "DoRA also scales each column of a weight, which no LoRA does",
}
# Initial values that PEFT takes off the T5's own weights, so that the adapter is
# one of another T5; converted when saved, they are plain LoRA.
_OFF_WEIGHTS = ("pissa", "olora", "corda", "loftq", "lora_ga")
_TASKS = (None, "SEQ_2_SEQ_LM", "FEATURE_EXTRACTION", "CAUSAL_LM")


@dataclasses.dataclass(frozen=True)
class Settings:
  """An adapter's settings, checked."""

  facts: Mapping[str, Any]
  where: str

  @property
  def kind(self) -> str:
    """`LORA` or `IA3`."""
    return self.facts["peft_type"]

  def rank(self, module: str) -> int:
    """Of a LoRA, as `rank_pattern` says before `r`."""
    found = self._own("rank_pattern", "r", 8, module)
    if type(found) is not int or found < 1:
      raise self.fault(
        "r", f"the rank of {module}", "a whole number from 1", found
      )
    return found

  def scale(self, module: str) -> float:
    """What a LoRA's product is multiplied by."""
    alpha = self._own("alpha_pattern", "lora_alpha", 8, module)
    is_number = isinstance(alpha, int | float) and not isinstance(alpha, bool)
    if not is_number or not math.isfinite(alpha):
      raise self.fault(
        "lora_alpha", f"the alpha of {module}", "a finite number", alpha
      )
    rank = self.rank(module)
    return alpha / (math.sqrt(rank) if self.facts.get("use_rslora") else rank)

  def targets(self, module: str) -> bool:
    """Whether a module is one of those that the settings name.

    As in PEFT: a text is a regular expression of whole names, a list holds their
    ends.
    """
    if self._is_named("exclude_modules", module):
      return False
    if str(self.facts.get("target_modules")).lower() == "all-linear":
      return module != HEAD
    if not self._is_named("target_modules", module):
      return False
    # PEFT asks for layers only where names are a list, and are not whole.
    names = self.facts["target_modules"]
    if isinstance(names, str) or module in names:
      return True
    layers = self.facts.get("layers_to_transform")
    if layers is None or layers == []:
      return True
    return self._layer(module) in (
      layers if isinstance(layers, list) else [layers]
    )

  def scales_input(self, module: str) -> bool:
    """Whether an IA3 scales what a module takes, not what it gives."""
    names = self.facts.get("feedforward_modules") or []
    if isinstance(names, str):
      return self._matches("feedforward_modules", names, module)
    return module.endswith(tuple(names))

  def fault(self, name: str, what: str, rule: str, came: Any) -> ValueError:
    return ValueError(
      f"{self.where}: {name}: {what} must be {rule}, got {came!r}"
    )

  def _is_named(self, name: str, module: str) -> bool:
    names = self.facts.get(name) or []
    if isinstance(names, str):
      return self._matches(name, names, module)
    return any(module == own or module.endswith(f".{own}") for own in names)

  def _own(self, patterns: str, name: str, default: Any, module: str) -> Any:
    """The value of the first pattern that fits a module's name or its end."""
    for pattern, value in (self.facts.get(patterns) or {}).items():
      if self._matches(patterns, rf"(.*\.)?({pattern})", module):
        return value
    return self.facts.get(name, default)

  def _layer(self, module: str) -> int | None:
    patterns = self.facts.get("layers_pattern") or [r"[^.]*"]
    for own in [patterns] if isinstance(patterns, str) else patterns:
      found = self._match(
        "layers_pattern", rf"(?:^|.*?\.){own}\.(\d+)\.", module
      )
      if found:
        return int(found[found.re.groups])
    return None

  def _matches(self, name: str, pattern: str, module: str) -> bool:
    return bool(self._match(name, rf"(?:{pattern})\Z", module))

  def _match(self, name: str, pattern: str, module: str) -> re.Match | None:
    try:
      return re.match(pattern, module)
    except re.error as error:
      raise ValueError(
        f"{self.where}: {name} has {pattern!r}, which is no regular expression: "
        f"{error}"
      ) from error


def read(facts: Mapping[str, Any], where: str) -> Settings:
  """The settings of a LoRA or an IA3.

  Args:
    facts: of adapter_config.json.
    where: it lies, for messages.

  Raises:
    ValueError: they are of another kind, or have something that changes what is
      computed and that HyperJAX has not; all such fields are named.
  """
  kind = facts.get("peft_type")
  if kind not in (LORA, IA3):
    raise ValueError(
      f"{where}: peft_type is {kind!r}; {LORA} and {IA3} can be read, others "
      f"have no counterpart here. Where it can be merged: {_MERGED}"
    )
  refused = [
    f"{name} is {facts[name]!r}" + (f": {why}" if why else "")
    for name, why in _refused(facts).items()
  ]
  if refused:
    raise ValueError(
      f"{where}: {'; '.join(refused)}. HyperJAX's adapters cannot hold that: "
      f"{_MERGED}"
    )
  start = facts.get("init_lora_weights")
  if str(start).lower().startswith(_OFF_WEIGHTS):
    raise ValueError(
      f"{where}: init_lora_weights is {start!r}: its T5 has other weights than "
      "the one that it was made of. Save it as LoRA: PEFT's save_pretrained with "
      "path_initial_model_for_weight_conversion"
    )
  _check_types(facts, where)
  return Settings(facts, where)


def _refused(facts: Mapping[str, Any]) -> dict[str, str]:
  """Fields that say something and may not, and why; why is empty if unknown."""
  found = {
    name: _REASONS.get(name, "what it changes is not known here")
    for name, value in facts.items()
    if name not in _IDLE | _READ and value and value != "none"
  }
  if facts.get("task_type") not in _TASKS:
    found["task_type"] = "it has a head of its own"
  return found


def _check_types(facts: Mapping[str, Any], where: str) -> None:
  """Refuses values that are not of their fields' types."""
  for name in (
    "target_modules",
    "exclude_modules",
    "feedforward_modules",
    "layers_pattern",
  ):
    own = facts.get(name)
    is_list = isinstance(own, list) and all(isinstance(x, str) for x in own)
    if not (own is None or isinstance(own, str) or is_list):
      raise ValueError(
        f"{where}: {name} must be a text or a list of texts, got {own!r}"
      )
  for name in ("rank_pattern", "alpha_pattern"):
    if not isinstance(facts.get(name) or {}, dict):
      raise ValueError(
        f"{where}: {name} must be an object, got {facts[name]!r}"
      )
  layers = facts.get("layers_to_transform")
  each = layers if isinstance(layers, list) else [layers]
  if layers is not None and any(type(x) is not int for x in each):
    raise ValueError(
      f"{where}: layers_to_transform must be whole numbers, got {layers!r}"
    )
