"""Weights & Biases: wandb's own client."""

import dataclasses
import pathlib
import tempfile
from collections.abc import Mapping
from typing import Annotated, Any

from hyperjax import checks, metrics, paths

_MODES = ("online", "offline")


@dataclasses.dataclass(frozen=True)
class WeightsAndBiases:
  """Tells a run's numbers to Weights & Biases (https://docs.wandb.ai).

  Attributes:
    project: that the run belongs to.
    entity: the user or team whose project it is; None for the key's own.
    name: of the run there; None for that of its folder.
    mode: "offline" writes files into the run folder, which `wandb sync` sends later.
  """

  project: str
  entity: str | None = None
  name: str | None = None
  mode: Annotated[str, checks.OneOf(_MODES)] = "online"

  def __post_init__(self):
    checks.fields(self)

  @property
  def service(self) -> str:
    return "wandb"

  def open(
    self, folder: pathlib.Path, identity: str | None, facts: Mapping[str, Any]
  ) -> tuple[str, metrics.Log]:
    """See `Tracker.open`."""
    is_there = paths.is_bucket(folder)
    if is_there and self.mode == "offline":
      raise ValueError(
        'WeightsAndBiases.mode is "offline", whose files would lie in the run\'s '
        f"folder: {folder} is in a bucket, which has none that grow"
      )
    try:
      import wandb
      from wandb.errors import Error
    except ModuleNotFoundError as error:
      raise ValueError(
        "trackers.WeightsAndBiases needs wandb: pip install 'hyperjax[wandb]'"
      ) from error
    scratch = tempfile.TemporaryDirectory() if is_there else None
    try:
      run = wandb.init(
        project=self.project,
        entity=self.entity,
        name=self.name or folder.name,
        id=identity,
        resume="allow",
        mode="offline" if self.mode == "offline" else "online",
        dir=folder if scratch is None else scratch.name,
        config=dict(facts),
        settings=wandb.Settings(silent=True),
      )
    except Error as error:
      raise ValueError(
        f"trackers.WeightsAndBiases: {error}; `wandb login` stores a key, "
        'WeightsAndBiases.mode = "offline" does without'
      ) from error
    return run.id, _Log(run, scratch)


class _Log:
  """wandb takes a step's numbers together, and leaves out steps that it has.

  Steps that a run takes again after a kill are the same, as long as nothing was
  changed meanwhile; else those of before stay there.
  """

  def __init__(self, run: Any, scratch: tempfile.TemporaryDirectory | None):
    """`scratch` is removed at the end."""
    self._run, self._scratch = run, scratch

  def write(self, step: int, values: Mapping[str, float]) -> None:
    self._run.log(dict(values), step=step)

  def write_timing(self, step: int, values: Mapping[str, float]) -> None:
    self._run.log(dict(values), step=step)

  def close(self) -> None:
    self._run.finish()
    if self._scratch is not None:
      self._scratch.cleanup()

  def sync(self) -> None:
    pass
