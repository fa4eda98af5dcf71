"""The views a method may ask for, made for a whole batch at once on the device the images lie on.

``plain``   the image as it is
``flip``    mirrored left to right half of the time (where the data set allows it)
``weak``    flip, then a crop of the padded image
``strong``  the weak view, then RandAugment or FixMatch's own and Cutout, or Srikanth's colour jitter, greyscale and blur
``rotate``  the weak view, turned left by ``turns`` quarters
``weak_of_bytes``  the weak view of an image that is itself a weak view, normalised and then stored as bytes: of -1.3, -0.6,
            0.7 and 2.4 become 255, 0, 0 and 2, so that little of the image is left. What the code of Alshami and Arya does
            with the images that it labels

A view is made in two steps: :meth:`Views.draw` draws its numbers on the host, :meth:`Views.apply` turns images and numbers
into the view.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fewlabels.data.augment import color_jitter as colour
from fewlabels.data.augment import fixmatch, randaugment
from fewlabels.data.augment.fixmatch import STEPS
from fewlabels.data.augment.geometry import crop_and_flip, turned
from fewlabels.system.device import constant, to_device
from fewlabels.types import UserError

KINDS = ("plain", "flip", "weak", "strong", "rotate", "weak_of_bytes")
FIXMATCH = ("fixmatch", "fixmatch_pytorch")
STRONG = ("randaugment", *FIXMATCH, "jitter")
AGAIN = "_again"  # ends the names of the numbers of a second weak view
# What a method may set for one of its views; ``turns`` is of ``rotate`` alone.
OPTIONS = ("padding", "strong", "num_ops", "magnitude", "cutout", "hue")

Numbers = dict[str, dict[str, Tensor]]  # by view and by name


class Draws:
    """Random parameters for a batch, on the host: one an image, or one that all images share (``shared``)."""

    def __init__(self, count: int, generator: torch.Generator, shared: bool) -> None:
        self.count, self.generator, self.drawn = count, generator, 1 if shared else count

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        values = torch.rand(self.drawn, *shape, generator=self.generator)
        return (low + (high - low) * values).expand(self.count, *shape)

    def chance(self, probability: float) -> Tensor:
        return self.uniform(0, 1) < probability

    def integers(self, low: int, high: int) -> Tensor:
        """From low to high, both included."""
        return torch.randint(low, high + 1, (self.drawn,), generator=self.generator).expand(self.count)

    def orders(self, length: int) -> Tensor:
        """A random permutation of 0 .. length - 1 each: ``[count, length]``."""
        return self.uniform(0, 1, length).argsort(dim=1)


@dataclass(frozen=True)
class Views:
    """Makes views. Input ``[B, H, W, C]`` uint8, output ``[B, C, h, w]`` float32, channels-last, normalised.

    Args:
        mean, std: of each channel, for values in [0, 1].
        flip: whether mirroring keeps the label (not for digits).
        padding: pixels that a crop may reach over each border.
        crop: side of the crop; None: the image's own. Plain and flip views take the centre.
        reflect: mirror the image into the padding; else black.
        strong: ``randaugment``, torchvision's; ``fixmatch``, FixMatch's own; ``fixmatch_pytorch``, its usual code for
            PyTorch; or ``jitter``.
        num_ops, magnitude, cutout: of the first three, and Cutout's side as a share of the image's. RandAugment's magnitude
            is one for all, of 30; FixMatch draws strengths from 1 to one less than its, of ten.
        hue: range of the jitter's hue shift, in turns; brightness, contrast and saturation vary by 0.4.
        notebook: Srikanth's published pipeline: an image is mirrored and normalised first, once for all its views; then
            the weak and the strong view of a whole batch draw ONE set of parameters, on normalised values (padding is then
            mid-grey, and the jitter clamps to [0, 1] what lies in [-1, 1]).
        size: the side that the stored images are scaled to first (bilinear); None: as they are.
        per_image: instead of by mean and std, each image less its own mean, over its largest absolute value then
            (Balestriero et al., section 3.1).
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    flip: bool = True
    padding: int = 4
    crop: int | None = None
    reflect: bool = True
    strong: str = "randaugment"
    num_ops: int = 2
    magnitude: int = 10
    cutout: float = 0.5
    hue: float = 0.1
    notebook: bool = False
    per_image: bool = False
    size: int | None = None

    def __post_init__(self) -> None:
        if self.strong not in STRONG:
            raise UserError(f"views.strong={self.strong} is none of {', '.join(STRONG)}")
        if self.notebook and (self.strong != "jitter" or self.reflect):
            raise UserError(
                "views.notebook=true has the jitter as its strong view and pads without mirroring: "
                "set views.strong=jitter and views.reflect=false"
            )
        if self.strong in FIXMATCH and not 2 <= self.magnitude <= STEPS:
            raise UserError(
                f"views.strong={self.strong} draws strengths from 1 to views.magnitude - 1, of {STEPS}: "
                f"views.magnitude={self.magnitude} must be from 2 to {STEPS}"
            )

    def check(self, wanted: Mapping[str, Any], height: int, width: int) -> dict[str, tuple[str, Views, int]]:
        """What :meth:`_of` says; what these views of images of that size would not obey is refused."""
        found = self._of(wanted)
        for kind, views, turns in found.values():
            side = views.crop or views.size or min(height, width)
            crops = kind not in ("plain", "flip")
            if crops and views.padding >= side and (views.notebook or not views.reflect):
                raise UserError(
                    f"views.padding={views.padding} reaches past whole views of {side} pixels, so that one could show "
                    f"padding alone: at most {side - 1}, or views.reflect=true"
                )
            if turns % 2 and not views.crop and height != width:
                raise UserError("a quarter turn needs square images: set views.crop or dataset.image_size")
        return found

    def _of(self, wanted: Mapping[str, Any]) -> dict[str, tuple[str, Views, int]]:
        """The kind of each view, with these settings or its own, and its quarter turns."""
        if not isinstance(wanted, Mapping):
            raise UserError(f"a method asks for its views as a mapping from names to kinds, not as {wanted!r}")
        found = {}
        for name, view in wanted.items():
            options = dict(view) if isinstance(view, Mapping) else {"kind": view}
            kind, turns = options.pop("kind", None), options.pop("turns", 0)
            if kind not in KINDS:
                raise UserError(f"view {name!r}: there is no kind {kind!r}: {', '.join(KINDS)}")
            if unknown := set(options) - set(OPTIONS):
                raise UserError(f"view {name!r}: there is no option {min(unknown)!r}: {', '.join(OPTIONS)}")
            if not isinstance(turns, int) or (turns and kind != "rotate"):
                raise UserError(f"view {name!r}: turns={turns!r} is a whole number, of the kind rotate alone")
            found[name] = kind, replace(self, **options) if options else self, turns
        return found

    def make_all(self, wanted: Mapping[str, Any], images: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Several views of each image, by name; each has draws of its own.

        Args:
            wanted: the kind of each view, or a mapping with its ``kind`` and options.
            images: ``[B, H, W, C]`` uint8.
            generator: of the host: the same draws on every device, and no wait for one.
        """
        count, height, width = images.shape[:3]
        return self.apply(wanted, images, self.draw(wanted, count, height, width, generator))

    def draw(self, wanted: Mapping[str, Any], count: int, height: int, width: int, generator: torch.Generator) -> Numbers:
        """The random numbers of these views of ``count`` images, ``[count, ...]`` each, by the name of the view.

        Under the name ``""`` stands what all the views share.
        """
        views = self.check(wanted, height, width)
        if self.size is not None:
            height = width = self.size
        numbers: Numbers = {"": {}}
        if self._flipped_first(views):
            numbers[""]["flip"] = Draws(count, generator, shared=False).chance(0.5)
        return numbers | {name: own._draw(kind, count, height, width, generator) for name, (kind, own, _) in views.items()}

    def apply(self, wanted: Mapping[str, Any], images: Tensor, numbers: Numbers, every: bool = False) -> dict[str, Tensor]:
        """The views of these images.

        Args:
            wanted: as for :meth:`make_all`.
            images: ``[B, H, W, C]`` uint8.
            numbers: what :meth:`draw` gave.
            every: put all images through all operations, and choose then: no shape depends on what was drawn. The numbers
                lie on the images' device then; else on the host. The bits are the same.
        """
        views = self._of(wanted)
        images = self._scaled(images)
        if self._flipped_first(views):
            chosen = to_device(numbers[""]["flip"], images.device)
            images = torch.where(chosen.view(-1, 1, 1, 1), images.flip(2), images)
        return {
            name: own._make(kind, images, numbers.get(name, {}), every, turns) for name, (kind, own, turns) in views.items()
        }

    def _flipped_first(self, views: Mapping[str, tuple[str, Views, int]]) -> bool:
        """Whether images are mirrored once for all their views."""
        return self.notebook and self.flip and {kind for kind, _, _ in views.values()} != {"plain"}

    def _scaled(self, images: Tensor) -> Tensor:
        if self.size is None or images.shape[1:3] == (self.size, self.size):
            return images
        planar = images.permute(0, 3, 1, 2).float()
        scaled = F.interpolate(planar, (self.size, self.size), mode="bilinear", antialias=True)
        return scaled.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)

    def make(self, kind: str, images: Tensor, generator: torch.Generator) -> Tensor:
        """One view of each image, of a kind that needs no options."""
        return self.make_all({kind: kind}, images, generator)[kind]

    def _draw(self, kind: str, count: int, height: int, width: int, generator: torch.Generator) -> dict[str, Tensor]:
        if kind == "plain" or (kind == "flip" and (self.notebook or not self.flip)):
            return {}
        draws = Draws(count, generator, shared=self.notebook)
        if kind == "flip":
            return {"flip": draws.chance(0.5)}
        window = (self.crop, self.crop) if self.crop else (height, width)
        if kind == "weak_of_bytes":
            first = self._draw("weak", count, height, width, generator)
            second = self._draw("weak", count, *window, generator)
            return first | {name + AGAIN: values for name, values in second.items()}
        if self.notebook:  # which takes the centre first
            height, width = window
        numbers = {"flip": draws.chance(0.5)} if self.flip else {}
        numbers["top"] = draws.integers(-self.padding, height - window[0] + self.padding)
        numbers["left"] = draws.integers(-self.padding, width - window[1] + self.padding)
        if kind != "strong":
            return numbers
        if self.strong == "jitter":
            factors = [draws.uniform(0.6, 1.4, 3), draws.uniform(-self.hue, self.hue, 1)]
            numbers |= {"factors": torch.cat(factors, dim=1), "order": draws.orders(4), "grey": draws.chance(0.2)}
            return numbers | {"blurred": draws.chance(0.2), "sigma": draws.uniform(0.1, 2.0)}
        if self.strong in FIXMATCH:
            drawn = fixmatch.draw_operations(count, self.num_ops, self.magnitude, generator)
        else:
            drawn = randaugment.draw_operations(count, self.num_ops, generator)
        numbers |= {"operations": drawn[0].t(), "strengths": drawn[1].t()}
        numbers["row"], numbers["column"] = randaugment.draw_cut(count, *window, generator)
        return numbers

    def _make(self, kind: str, images: Tensor, numbers: Mapping[str, Tensor], every: bool, turns: int = 0) -> Tensor:
        if kind == "rotate":
            return turned(self._make("weak", images, numbers, every), turns)
        if kind == "weak_of_bytes":
            again = {name.removesuffix(AGAIN): values for name, values in numbers.items() if name.endswith(AGAIN)}
            stored = as_bytes(self._make("weak", images, numbers, every)).permute(0, 2, 3, 1)
            return self._make("weak", stored, again, every)
        if kind == "plain" or (kind == "flip" and self.notebook):
            return self._normalise(self._window(images))
        if kind == "flip":
            return self._normalise(self._window(images, to_device(numbers["flip"], images.device) if self.flip else None))
        if self.notebook:
            x = self._normalise(self._window(images)).permute(0, 2, 3, 1)
            x = self._random_window(x, numbers, reflect=False).permute(0, 3, 1, 2)
            return self._jitter(x, numbers, every, scale=False) if kind == "strong" else x
        images = self._random_window(images, numbers, self.reflect)
        if kind == "weak":
            return self._normalise(images)
        if self.strong == "jitter":
            return self._jitter(images.permute(0, 3, 1, 2).float() / 255, numbers, every, scale=True)
        drawn = numbers["operations"].t(), numbers["strengths"].t()
        pytorch = self.strong == "fixmatch_pytorch"
        if self.strong in FIXMATCH:
            augment = fixmatch.fixmatch_augment_every if every else fixmatch.fixmatch_augment
            images = augment(images, *drawn, pytorch)
        else:
            images = (randaugment.rand_augment_every if every else randaugment.rand_augment)(images, *drawn, self.magnitude)
        return self._normalise(randaugment.cutout(images, self.cutout, numbers["row"], numbers["column"], pytorch))

    def _size(self, images: Tensor) -> tuple[int, int]:
        return (self.crop, self.crop) if self.crop else (images.shape[1], images.shape[2])

    def _window(self, images: Tensor, flip: Tensor | None = None) -> Tensor:
        """The centre, mirrored where ``flip`` ``[B]``."""
        size = self._size(images)
        top, left = (images.shape[1] - size[0]) // 2, (images.shape[2] - size[1]) // 2
        centre = images[:, top : top + size[0], left : left + size[1]]
        return centre if flip is None else torch.where(flip.view(-1, 1, 1, 1), centre.flip(2), centre)

    def _random_window(self, images: Tensor, numbers: Mapping[str, Tensor], reflect: bool) -> Tensor:
        top, left = numbers["top"], numbers["left"]
        flip = numbers["flip"] if self.flip else torch.zeros_like(top, dtype=torch.bool)
        return crop_and_flip(images, flip, top, left, self._size(images), reflect)

    def _jitter(self, images: Tensor, numbers: Mapping[str, Tensor], every: bool, scale: bool) -> Tensor:
        """Srikanth's strong augmentation of floats ``[B, C, H, W]``; normalised after it where ``scale``."""
        images = images.contiguous()
        images = colour.jitter(images, numbers["order"], numbers["factors"], every)
        images = colour.apply_where(images, numbers["grey"], colour.greyed, every=every)
        images = colour.apply_where(images, numbers["blurred"], colour.blur3, numbers["sigma"], every=every)
        if scale and self.per_image:
            images = centred(images)
        elif scale:
            mean, std = constant(self.mean, images.device), constant(self.std, images.device)
            images = (images - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)
        return images.contiguous(memory_format=torch.channels_last)

    def _normalise(self, images: Tensor) -> Tensor:
        """uint8 ``[B, H, W, C]`` -> (value / 255 - mean) / std as ``[B, C, H, W]``.

        Worked out row by row, with the channels' constants repeated along it: a loop over three channels would be slow.
        The permuted view of the result is exactly torch's channels-last layout.
        """
        batch, height, width, channels = images.shape
        if self.per_image:
            return centred(images.permute(0, 3, 1, 2).float())
        mean, std = constant(self.mean, images.device), constant(self.std, images.device)
        scale, shift = (1 / (255 * std)).repeat(width), (-mean / std).repeat(width)
        rows = torch.addcmul(shift, images.reshape(batch, height, width * channels).float(), scale)
        return rows.view(batch, height, width, channels).permute(0, 3, 1, 2)


def centred(images: Tensor) -> Tensor:
    """(x - mean x) / max |x - mean x| of each image ``[B, C, H, W]``; a flat image becomes 0."""
    flat = images.flatten(1)
    flat = flat - flat.mean(dim=1, keepdim=True)
    largest = flat.abs().amax(dim=1, keepdim=True)
    centred = (flat / torch.where(largest > 0, largest, 1.0)).view_as(images)
    return centred.contiguous(memory_format=torch.channels_last)


def as_bytes(values: Tensor) -> Tensor:
    """Floats as C casts them to bytes on the usual machines: cut off towards zero, then modulo 256, so that -1 becomes 255.

    For negative numbers the cast itself is undefined, in C and in torch.
    """
    return (values.to(torch.int32) & 255).to(torch.uint8)
