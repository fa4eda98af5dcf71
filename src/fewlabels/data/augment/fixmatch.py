"""FixMatch's own strong augmentation (Sohn et al. 2020) for a whole batch at once.

As in RandAugment each image draws its own operations, from the same fourteen, but each operation is left out half of the
time, and each has a strength of its own. What the operations do at a strength is in the paper's table (appendix D): it
has factors of 0.05 to 0.95, 4 to 8 bits, 30 degrees, shears and moves of 0.3, and thresholds over the whole range. How
they are drawn and rounded, their signs and the fill are those of the authors' code (github.com/google-research/fixmatch),
whose ranges are wider: factors of 0.1 to 1.9 and 0 to 4 bits.

What a move uncovers is mid-grey in the end, but black, as Pillow leaves it, for the operations in between: the authors
mark it as transparent. The four operations that know no transparency (autocontrast, equalize, posterize, solarize)
make it a part of the image.

The usual code for PyTorch (``pytorch``; of github.com/kekmodel/FixMatch-pytorch, which others take over) draws alike and
has the same operations at the same strengths, but for this: posterize keeps more bits the stronger it is, 4 to 7 at
strengths of 1 to 9; what a move uncovers stays black.

Images are ``[B, H, W, C]`` uint8.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from fewlabels.data.augment.geometry import affine
from fewlabels.data.augment.randaugment import OPERATIONS, apply_every_operation, blend_weights, blended, matrices, remapped
from fewlabels.system.device import to_device

STEPS = 10  # of a range: strength 0 would be its one end and 10 the other
IDENTITY = 0  # the first of the fourteen, in randaugment's order


def draw_operations(count: int, num_ops: int, magnitude: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Operations and their strengths: ``[num_ops, count]`` int64 each, on the host.

    Args:
        count: of images.
        num_ops: operations in a row; 2 in the paper.
        magnitude: strengths are drawn from 1 to one less, of ten; 10 in the paper.
        generator: of the host.
    """
    rounds = [draw(count, magnitude, generator) for _ in range(num_ops)]
    if not rounds:
        return torch.empty(0, count).long(), torch.empty(0, count).long()
    operations, strengths = map(torch.stack, zip(*rounds, strict=True))
    return operations, strengths


def draw(count: int, magnitude: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """One operation an image and its strength, ``[count]`` int64 each, on the host.

    Returns:
        0 .. 13 in :func:`apply_operations`' order, identity also where the operation is left out; and a strength of
        1 .. ``magnitude`` - 1, negative half of the time.
    """
    operations = torch.randint(OPERATIONS, (count,), generator=generator)
    applied = torch.randint(2, (count,), generator=generator)
    strengths = torch.randint(1, magnitude, (count,), generator=generator)
    negative = torch.randint(2, (count,), generator=generator)
    return torch.where(applied > 0, operations, IDENTITY), strengths * (1 - 2 * negative)


def _amounts(strengths: Sequence[Tensor], height: int, width: int) -> list[Tensor]:
    """Of shear x, shear y, translate x, translate y and rotate, for :func:`matrices`. A positive one moves left or up.

    Moves are of whole pixels. Shears lie on Pillow's grid of 2 ** -16: what would be read from exactly between two
    pixels is then read from the same one as there.
    """
    in_x, in_y, left, up, turn = strengths
    shears = [(0.3 / STEPS * each * 2**16).round() / 2**16 for each in (in_x, in_y)]
    moves = [-each.sign() * (each.abs() * 3 * side // (10 * STEPS)) for each, side in ((left, width), (up, height))]
    return [*shears, *moves, torch.deg2rad(turn * (30 / STEPS))]


def _limits(posterized: Tensor, solarized: Tensor, pytorch: bool) -> Tensor:
    """Masks of the bits that stay, then thresholds: ``[B, 1, 1, 1]`` uint8. The stronger, the fewer bits and the lower."""
    dropped = 4 * posterized.abs() // STEPS
    kept = 256 - 2 ** (4 - dropped if pytorch else dropped)
    return torch.cat([kept, 256 - 256 * solarized.abs() // STEPS]).to(torch.uint8).view(-1, 1, 1, 1)


def apply_operations(
    images: Tensor, seen: Tensor, counts: Sequence[int], strengths: Tensor, pytorch: bool = False
) -> tuple[Tensor, Tensor]:
    """Operation 1 to the first ``counts[1]`` images, operation 2 to the next ``counts[2]``, and so to the last, 13.

    They are: shear x, shear y, translate x, translate y, rotate, brightness, color, contrast, sharpness, posterize,
    solarize, autocontrast, equalize. None of the images has operation 0, identity, whose count goes unread.

    Args:
        images: ``[B, H, W, C]`` uint8, one at least.
        seen: like ``images``, 255 where a pixel is the image's and 0 where a move uncovered it. A value for each channel:
            whole rows of bytes are faster than one byte that is spread over three.
        counts: fourteen.
        strengths: ``[B]`` int64, -9 .. 9 but not 0, on the host; the sign is of shears, moves and turns alone.
        pytorch: whether posterize is that of the usual code for PyTorch.

    Returns:
        The images and what is seen of them now.
    """
    sizes = [sum(counts[1:6]), sum(counts[6:10]), sum(counts[10:])]
    moved, *others = images.split([sizes[0], *counts[6:]])
    there, unmoved, whole = seen.split(sizes)
    own = strengths.split(list(counts[1:]))
    done, masks = [], [unmoved, torch.full_like(whole, 255)]
    if len(moved):
        height, width = images.shape[1:3]
        maps = matrices(_amounts(own[:5], height, width), height, width)
        moved, there = affine(torch.cat([moved, there]), maps.repeat(2, 1, 1)).chunk(2)
        done, masks = [moved], [there, *masks]
    factors = 0.05 + 0.9 / STEPS * torch.cat(own[5:9]).abs().double()
    done += blended(others[:4], to_device(blend_weights(factors), images.device))
    kept, thresholds = to_device(_limits(own[9], own[10], pytorch), images.device).split(list(counts[10:12]))
    done += remapped(others[4:], kept, thresholds)
    return torch.cat(done), torch.cat(masks)


def fixmatch_augment(images: Tensor, operations: Tensor, strengths: Tensor, pytorch: bool = False) -> Tensor:
    """These operations in a row on each image. Only the images that drew one are touched.

    Args:
        images: ``[B, H, W, C]`` uint8.
        operations, strengths: ``[num_ops, B]`` each, as :func:`draw_operations` gives them: on the host, which so knows
            how many images drew each operation without asking the device.
        pytorch: as the usual code for PyTorch.
    """
    batch, seen = len(images), torch.full_like(images, 255)
    for choice, strength in zip(operations, strengths, strict=True):
        counts = torch.bincount(choice, minlength=OPERATIONS).tolist()
        order = choice.argsort()[counts[IDENTITY] :]
        if len(order) == 0:
            continue
        place = torch.arange(batch).index_copy_(0, order, torch.arange(batch, batch + len(order)))
        there, place = to_device(order, images.device), to_device(place, images.device)
        done = apply_operations(images.index_select(0, there), seen.index_select(0, there), counts, strength[order], pytorch)
        # Behind the others and from there to their places: many times as fast, of bytes on a processor, as index_copy.
        images, seen = (
            torch.cat([whole, part]).index_select(0, place) for whole, part in zip((images, seen), done, strict=True)
        )
    return images if pytorch else _grey_where_unseen(images, seen)


def _grey_where_unseen(images: Tensor, seen: Tensor) -> Tensor:
    return images ^ (images ^ 127) & ~seen


@cache
def _tables(height: int, width: int, device: torch.device, pytorch: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """By strength, from -9 on: maps ``[19, 14, 2, 3]`` (of each operation), blends' weights ``[19, 2, 1, 1, 1]``, and
    posterize's and solarize's limits ``[19, 1, 1, 1]``."""
    strengths = torch.arange(1 - STEPS, STEPS)
    maps = torch.eye(2, 3).repeat(len(strengths), OPERATIONS, 1, 1)
    moves = matrices(_amounts([strengths] * 5, height, width), height, width)
    maps[:, 1:6] = moves.view(5, len(strengths), 2, 3).transpose(0, 1)
    weights = blend_weights(0.05 + 0.9 / STEPS * strengths.abs().double())
    kept, thresholds = _limits(strengths, strengths, pytorch).chunk(2)
    return maps.to(device), weights.to(device), kept.to(device), thresholds.to(device)


def fixmatch_augment_every(images: Tensor, operations: Tensor, strengths: Tensor, pytorch: bool = False) -> Tensor:
    """:func:`fixmatch_augment` in fixed shapes; the operations and strengths lie on the device."""
    seen = torch.full_like(images, 255)
    maps, weights, kept, thresholds = _tables(*images.shape[1:3], images.device, pytorch)
    for choice, strength in zip(operations, strengths, strict=True):
        row, number = strength + STEPS - 1, choice.view(-1, 1, 1, 1)
        own = maps[row, choice]
        images = apply_every_operation(images, choice, own, weights[row], kept[row], thresholds[row])
        seen = torch.where((number >= 1) & (number <= 5), affine(seen, own), seen)
        seen = torch.where(number >= 10, 255, seen)
    return images if pytorch else _grey_where_unseen(images, seen)
