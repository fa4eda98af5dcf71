"""The trackers that the configuration asks for."""

from __future__ import annotations

from fewlabels.config.schema import TrackingConfig
from fewlabels.tracking.bar import Bar
from fewlabels.tracking.base import Tracker
from fewlabels.tracking.jsonl import JsonLines
from fewlabels.tracking.mlflow import MLflow
from fewlabels.tracking.tensorboard import TensorBoard
from fewlabels.tracking.tolerant import Tolerant
from fewlabels.tracking.wandb import WandB
from fewlabels.types import UserError


def build_trackers(cfg: TrackingConfig) -> list[Tracker]:
    """metrics.jsonl always; the others on request.

    Raises:
        UserError: the settings do not fit together.
    """
    if cfg.wandb_artifact and not cfg.wandb:
        raise UserError("tracking.wandb_artifact=true keeps weights at W&B, which has no run of these: add tracking=wandb")
    trackers: list[Tracker] = [JsonLines()]
    if cfg.bar:
        trackers.append(Tolerant(Bar()))
    if cfg.wandb:
        trackers.append(Tolerant(WandB(cfg.wandb_project, cfg.wandb_entity, cfg.wandb_mode, cfg.wandb_artifact)))
    if cfg.tensorboard:
        trackers.append(Tolerant(TensorBoard()))
    if cfg.mlflow:
        trackers.append(Tolerant(MLflow(cfg.mlflow_experiment)))
    return trackers
