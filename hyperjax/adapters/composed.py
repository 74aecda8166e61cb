"""Adapters of several kinds at once, such as LoRA with prefixes."""

import dataclasses
from collections.abc import Mapping, Sequence

from hyperjax.adapters import spec


@dataclasses.dataclass(frozen=True)
class ComposedSpec(spec.Spec):
  """What each of several specs describes, in one tree.

  Slots of the hypermodel are shared: slot i writes the i-th position of a prefix
  and the i-th rank of a LoRA, so there are as many as the largest part has.
  """

  parts: Sequence[spec.Spec]

  def __post_init__(self):
    super().__post_init__()
    object.__setattr__(self, "parts", tuple(self.parts))
    if len(self.parts) < 2:
      raise ValueError(
        "ComposedSpec.parts must be two specs of adapters or more, got "
        f"{list(self.parts)}"
      )
    if any(isinstance(part, ComposedSpec) for part in self.parts):
      raise ValueError(
        "ComposedSpec.parts must be specs that are not composed themselves, got "
        f"{list(self.parts)}"
      )

  @property
  def not_exported(self) -> Mapping[str, str]:
    found = {
      form: reason
      for part in reversed(self.parts)
      for form, reason in part.not_exported.items()
    }
    several = "PEFT loads adapters of one kind, and these are of several"
    return {"peft": several, "gguf": "llama.cpp's adapters are LoRA"} | found

  @property
  def label(self) -> str:
    return " and ".join(part.label for part in self.parts)

  @property
  def num_slots(self) -> int:
    return max(part.num_slots for part in self.parts)

  @property
  def most_read(self) -> int | None:
    found = [
      part.most_read for part in self.parts if part.most_read is not None
    ]
    return min(found, default=None)

  def mean_of(
    self, others: Sequence[spec.Spec], config: spec.Backbone
  ) -> spec.Spec:
    """Part by part."""
    given: list[Sequence[spec.Spec]] = []
    for other in others:
      if not isinstance(other, ComposedSpec) or len(other.parts) != len(
        self.parts
      ):
        raise ValueError(f"{self} and {other} have no mean")
      given.append(other.parts)
    parts = zip(self.parts, *given, strict=True)
    return ComposedSpec(
      tuple(first.mean_of(rest, config) for first, *rest in parts)
    )

  def leaves(self, config: spec.Backbone) -> spec.Adapters:
    nodes: dict[str, spec.Node] = {}
    for part in self.parts:
      own = spec.nodes(part.leaves(config))
      for place in own.keys() & nodes.keys():
        raise ValueError(
          "ComposedSpec.parts must stand at different places; several are at "
          f"{place}: {self.label}"
        )
      nodes |= own
    return spec.assemble(nodes)
