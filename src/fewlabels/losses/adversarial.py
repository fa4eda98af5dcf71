"""Virtual adversarial training. Miyato et al. 2018, eq. 5 to 12; used by Alshami and Arya, task 2."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def mean_divergence(target_logits: Tensor, logits: Tensor) -> Tensor:
    """Mean over the batch of KL(target || other): both ``[B, C]`` -> scalar, in nats."""
    log_p, log_q = target_logits.log_softmax(dim=1), logits.log_softmax(dim=1)
    return (log_p.exp() * (log_p - log_q)).sum(dim=1).mean()


def _unit(direction: Tensor) -> Tensor:
    """Each image's direction at L2 norm 1; an all-zero one stays zero."""
    norm = direction.flatten(1).norm(dim=1).clamp_min(torch.finfo(direction.dtype).tiny)
    return direction / norm.view(-1, *[1] * (direction.ndim - 1))


def virtual_adversarial_direction(
    model: Callable[[Tensor], Tensor],
    x: Tensor,
    xi: float,
    iterations: int,
    generator: torch.Generator | None = None,
    clean_logits: Tensor | None = None,
) -> Tensor:
    """The direction in which the prediction changes fastest, by power iteration.

    Args:
        model: images ``[B, ...]`` to logits ``[B, C]``.
        x: ``[B, ...]``.
        xi: length of the finite difference, in units of ``x``.
        iterations: of the power iteration; 0 gives a random direction.
        generator: of the first direction, which is drawn on its device.
        clean_logits: ``model(x)``, where it is known already.

    Returns:
        ``[B, ...]``, an L2 norm of 1 an image, no gradient. The perturbation is eps times this.
    """
    if clean_logits is None:
        with torch.no_grad():
            clean_logits = model(x)
    where = x.device if generator is None else generator.device
    direction = _unit(torch.randn(x.shape, generator=generator, device=where, dtype=x.dtype).to(x.device))
    with torch.enable_grad():
        for _ in range(iterations):
            direction.requires_grad_()
            divergence = mean_divergence(clean_logits.detach(), model(x.detach() + xi * direction))
            (gradient,) = torch.autograd.grad(divergence, direction)
            # Scaled before it is squared: a gradient of 1e-25 has a direction too.
            peak = gradient.flatten(1).abs().amax(dim=1).clamp_min(torch.finfo(gradient.dtype).tiny)
            direction = _unit(gradient / peak.view(-1, *[1] * (gradient.ndim - 1))).detach()
    return direction.detach()


def adversarial_logits(
    model: Callable[[Tensor], Tensor],
    x: Tensor,
    xi: float,
    eps: float,
    iterations: int,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """The logits of the clean images, without a gradient, and of the perturbed ones: ``[B, C]`` each.

    Args:
        model: images ``[B, ...]`` to logits ``[B, C]``.
        eps: L2 norm of the perturbation of each image, in units of ``x``.
        xi, iterations, generator: see :func:`virtual_adversarial_direction`.
    """
    with torch.no_grad():
        clean = model(x)
    direction = virtual_adversarial_direction(model, x, xi, iterations, generator, clean)
    return clean, model(x + eps * direction)
