"""One temperature for all logits, so that a network is as sure as it is right (Guo et al. 2017, section 4.2)."""

from __future__ import annotations

import numpy as np
from torch import Tensor

LEAST_IMAGES = 50  # to fit it on: by fewer it may come out far from that of the network
FLATTEST = 1e-3  # the largest difference of logits / T: with a larger T all classes are as probable


def fit_temperature(logits: Tensor, labels: Tensor) -> float | None:
    """The temperature T > 0 of the least mean cross-entropy of ``logits / T``, in float64.

    The cross-entropy is convex in 1 / T: its derivative there, the mean of the expected logit less that of the true class,
    has one root at most.

    Args:
        logits: ``[N, C]``, of images that were not trained on.
        labels: ``[N]``, their classes.

    Returns:
        None where there is no such T: all images are labelled right, and smaller and smaller ones fit better; the logits
        tell nothing, and larger and larger ones do; or they are not finite.
    """
    from scipy.optimize import brentq  # which takes time to import

    values = logits.detach().cpu().double().numpy()
    true = np.take_along_axis(values, labels.detach().cpu().numpy()[:, None], axis=1)
    below = values - values.max(axis=1, keepdims=True)  # no exponential overflows

    def slope(inverse: float) -> float:
        shares = np.exp(inverse * below)
        expected = (shares * values).sum(axis=1) / shares.sum(axis=1)
        return float((expected - true[:, 0]).mean())

    if not np.isfinite(values).all() or (true == values.max(axis=1, keepdims=True)).all():
        return None
    least = FLATTEST / -float(below.min())
    if slope(least) >= 0:
        return None
    most = least
    while slope(most) < 0:
        most *= 2
    return 1 / float(brentq(slope, least, most, xtol=1e-9 * least, rtol=1e-12))
