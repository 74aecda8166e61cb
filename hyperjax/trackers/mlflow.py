"""MLflow: its own client, which needs no more than mlflow-skinny."""

import dataclasses
import json
import pathlib
import re
import time
from collections.abc import Mapping
from typing import Any

from hyperjax import checks, metrics

# What MLflow takes in the name of a metric.
_NOT_ALLOWED = re.compile(r"[^\w\-. /:]")
_LONGEST_TAG = 5000


@dataclasses.dataclass(frozen=True)
class MLflow:
  """Tells a run's numbers to MLflow (https://mlflow.org/docs).

  Attributes:
    experiment: that the run belongs to; made where there is none of the name.
    tracking_uri: of the server or its store; None for MLFLOW_TRACKING_URI's.
    name: of the run there; None for that of its folder.
  """

  experiment: str
  tracking_uri: str | None = None
  name: str | None = None

  def __post_init__(self):
    checks.fields(self)

  @property
  def service(self) -> str:
    return "mlflow"

  def open(
    self, folder: pathlib.Path, identity: str | None, facts: Mapping[str, Any]
  ) -> tuple[str, metrics.Log]:
    """See `Tracker.open`."""
    try:
      import mlflow
      from mlflow.exceptions import MlflowException
    except ModuleNotFoundError as error:
      raise ValueError(
        "trackers.MLflow needs mlflow: pip install 'hyperjax[mlflow]'"
      ) from error
    try:
      client = mlflow.MlflowClient(tracking_uri=self.tracking_uri)
      if identity is None:
        identity = self._begun(client, folder, facts)
      else:
        client.update_run(identity, status="RUNNING")
    except (MlflowException, OSError) as error:
      raise ValueError(
        "trackers.MLflow (MLflow.tracking_uri, or MLFLOW_TRACKING_URI): "
        f"{error}"
      ) from error
    return identity, _Log(client, identity)

  def _begun(
    self, client: Any, folder: pathlib.Path, facts: Mapping[str, Any]
  ) -> str:
    found = client.get_experiment_by_name(self.experiment)
    experiment = (
      client.create_experiment(self.experiment)
      if found is None
      else found.experiment_id
    )
    run = client.create_run(experiment, run_name=self.name or folder.name)
    for name, value in facts.items():
      text = value if isinstance(value, str) else json.dumps(value)
      client.set_tag(run.info.run_id, name, text[:_LONGEST_TAG])
    return run.info.run_id


class _Log:
  def __init__(self, client: Any, identity: str):
    self._client = client
    self._identity = identity
    self._sent: list[Any] = []

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """Hands them to a thread of the client, which asks a server again and again."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    sent = self._client.log_batch(
      self._identity,
      metrics=[
        Metric(_NOT_ALLOWED.sub("_", name), float(value), now, step)
        for name, value in values.items()
      ],
      synchronous=False,
    )
    self._sent.append(sent)

  def write_timing(self, step: int, values: Mapping[str, float]) -> None:
    self.write(step, values)

  def close(self) -> None:
    for sent in self._sent:
      sent.wait()
    self._client.set_terminated(self._identity)

  def sync(self) -> None:
    pass
