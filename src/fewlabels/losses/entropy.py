"""Entropy of the predictions. Bansal and Zepeda, eq. 1 and 2; natural logarithm throughout."""

from __future__ import annotations

import torch
from torch import Tensor


def mean_entropy(logits: Tensor) -> Tensor:
    """J_M = 1/T sum_t H(q_t) (eq. 1): low when every prediction is confident.

    logits ``[B, C]`` -> scalar, in nats, from 0 to log C.
    """
    log_q = logits.log_softmax(dim=1)
    return -(log_q.exp() * log_q).sum(dim=1).mean()


def negative_batch_entropy(logits: Tensor, whole_batch_mean: Tensor | None = None) -> Tensor:
    """J_B = -H(1/T sum_t q_t) (eq. 2): low when the predictions spread evenly over the classes.

    logits ``[B, C]`` -> scalar, in nats, from -log C to 0.

    With gradient accumulation the logits are one micro-batch and ``whole_batch_mean`` ``[C]`` is the mean
    prediction over the whole batch (no gradient). The value is then this micro-batch's part: the mean of the
    parts is J_B of the whole batch, and the mean of their gradients is its exact gradient, because
    d/dq sum_c q_c log q_c = log q_c + 1 and the ones cancel (probabilities sum to 1).
    """
    mean = logits.softmax(dim=1).mean(dim=0)
    whole = mean if whole_batch_mean is None else whole_batch_mean.detach()
    # A class that underflows to 0 adds nothing; without the clamp its gradient would be 0 times infinity.
    return (mean * whole.clamp_min(torch.finfo(mean.dtype).tiny).log()).sum()
