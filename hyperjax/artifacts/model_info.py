"""What a trainer holds, for people: every parameter and its place."""

import math

from hyperjax import sharding, trees
from hyperjax.trainer import Trainer


def text(trainer: Trainer) -> str:
  """Every parameter: name, shape, logical axes, partition, trained or frozen."""
  lines, totals = [], {}
  state = trainer.abstract
  both = (("trained", state.params), ("frozen", state.frozen))
  for (kind, tree), axes in zip(both, trainer.axes, strict=True):
    names = trees.flatten(axes)
    for path, leaf in trees.flatten(tree).items():
      spec = tuple(leaf.sharding.spec)
      totals[kind] = totals.get(kind, 0) + math.prod(leaf.shape)
      lines.append(
        f"{kind:8} {path}  {leaf.dtype}{list(leaf.shape)}  "
        f"axes {tuple(names[path])}  partition {spec}"
      )
  head = [f"{kind}: {count:,} parameters" for kind, count in totals.items()]
  head.append(f"mesh: {dict(trainer.layout.mesh.shape)}")
  for name in ("params", "frozen", "opt_state"):
    held = sharding.device_bytes(getattr(state, name))
    head.append(f"{name}: {held / 2**20:,.1f} MiB on a device")
  return "\n".join([*head, "", *lines]) + "\n"
