"""Where else a run's numbers go: Weights & Biases, MLflow.

A tracker is named in gin (`trackers/wandb.gin`, `trackers/mlflow.gin`); what it needs is
an extra of its own (`hyperjax[wandb]`, `hyperjax[mlflow]`), imported when a run begins.
"""

from hyperjax.trackers.mlflow import MLflow
from hyperjax.trackers.tracked import Tracked, Tracker, tracked
from hyperjax.trackers.wandb import WeightsAndBiases

__all__ = ["MLflow", "Tracked", "Tracker", "WeightsAndBiases", "tracked"]
