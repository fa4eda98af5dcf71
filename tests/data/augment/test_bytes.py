"""Weak views of normalised images that were stored as bytes, against a slow statement in NumPy."""

import numpy as np
import pytest
import torch

from fewlabels.data.augment.views import Views, as_bytes

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)


def test_a_byte_is_cut_off_towards_zero_and_wraps_below_it():
    values = [-2.7, -2.0, -1.3, -1.0, -0.99, -0.6, 0.0, 0.7, 1.0, 1.2, 2.999, 3.0, 254.9, 256.4]
    by_hand = [254, 254, 255, 255, 0, 0, 0, 0, 1, 1, 2, 3, 254, 0]
    found = as_bytes(torch.tensor(values))
    assert found.dtype == torch.uint8
    assert found.tolist() == by_hand
    drawn = torch.randn(1000, generator=torch.Generator().manual_seed(0)) * 3
    assert as_bytes(drawn).tolist() == [int(value) % 256 for value in drawn.tolist()]


def weak(image, random, padding, crop, flip, reflect):
    """Flip, and a crop of the padded image ``[H, W, C]``; its numbers lie in ``random``, an iterator."""
    mirrored, top, left = (next(random) for _ in range(3)) if flip else (False, next(random), next(random))
    padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)), mode="reflect" if reflect else "constant")
    image = padded[top + padding :, left + padding :][:crop, :crop]
    return image[:, ::-1] if mirrored else image


@pytest.mark.parametrize("options", [{}, {"crop": 12, "padding": 2}, {"flip": False, "reflect": False}], ids=str)
def test_the_weak_view_of_bytes_of_the_normalised_weak_view(options):
    count, side = 12, 16
    images = torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    made = Views(mean=MEAN, std=STD, **options).make("weak_of_bytes", images, torch.Generator().manual_seed(2))
    flip, reflect = options.get("flip", True), options.get("reflect", True)
    padding, crop = options.get("padding", 4), options.get("crop", side)
    random, drawn = torch.Generator().manual_seed(2), []
    for inside in (side, crop):
        if flip:
            drawn.append(torch.rand(count, generator=random) < 0.5)
        drawn += [torch.randint(-padding, inside - crop + padding + 1, (count,), generator=random) for _ in range(2)]
    differ = 0
    for place in range(count):
        numbers = iter([int(each[place]) for each in drawn])
        view = weak(images[place].numpy(), numbers, padding, crop, flip, reflect)
        first = (view / 255 - np.array(MEAN)) / np.array(STD)
        stored = np.array([int(value) % 256 for value in first.flatten()]).reshape(first.shape)
        assert set(np.unique(stored)) <= {0, 1, 2, 254, 255}
        second = (weak(stored, numbers, padding, crop, flip, reflect) / 255 - np.array(MEAN)) / np.array(STD)
        np.testing.assert_allclose(made[place].permute(1, 2, 0).numpy(), second, rtol=0, atol=1e-5)
        differ += not np.array_equal(stored, stored[:, ::-1])
    assert differ == count
    assert made.is_contiguous(memory_format=torch.channels_last)
