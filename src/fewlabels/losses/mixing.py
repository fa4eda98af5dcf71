"""Mixup within a batch, with each image's own share the larger one. Berthelot et al. 2019, MixMatch, eq. 8 to 11."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from fewlabels.data.augment.geometry import mixed


def mixed_with_shuffled(
    images: Tensor, targets: Tensor, alpha: float, generator: Generator | None = None
) -> tuple[Tensor, Tensor]:
    """l X + (1 - l) W, with W the same batch in a random order, and the same of the targets.

    Args:
        images: ``[B, ...]``.
        targets: ``[B, C]``.
        alpha: l of each image is the larger of l' and 1 - l', where l' is drawn from Beta(alpha, alpha).
        generator: what is drawn is drawn on its device.
    """
    count, where = len(images), images.device if generator is None else generator.device
    share = larger_share(count, alpha, generator, where).to(images)
    order = torch.randperm(count, generator=generator, device=where).to(images.device)
    return mixed(images, images[order], share), mixed(targets, targets[order], share)


def larger_share(count: int, alpha: float, generator: Generator | None, device: torch.device) -> Tensor:
    """max(l, 1 - l) of draws l from Beta(alpha, alpha): ``[count]`` float64, each in [1/2, 1].

    From two Gamma draws, since torch's distributions take no generator. In float64: with a small alpha both are often too
    small for float32. Where they are for float64 as well, and both its least number, l is all but 0 or 1: 1 is returned.
    """
    draws = torch._standard_gamma(torch.full((2, count), alpha, dtype=torch.float64, device=device), generator=generator)
    larger = draws.amax(dim=0)
    return torch.where(larger > torch.finfo(torch.float64).tiny, larger / draws.sum(dim=0), 1.0)
