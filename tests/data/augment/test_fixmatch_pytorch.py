"""The usual code for PyTorch of FixMatch's strong augmentation against Pillow, one image at a time, with the same draws."""

import pytest
import torch
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from fewlabels.data.augment.fixmatch import draw, draw_operations, fixmatch_augment
from fewlabels.data.augment.randaugment import cutout
from tests.conftest import smooth_noise
from tests.data.augment.test_fixmatch import NAMES, pixels

SIDE = 32


def reference(image, name, strength):
    """One operation on one Pillow image ``RGB``, at a strength of 1 to 9 tenths whose sign is that of a move."""
    tenths, share = abs(strength), strength / 10
    if name in ("brightness", "color", "contrast", "sharpness"):
        return getattr(ImageEnhance, name.capitalize())(image).enhance(0.05 + 0.09 * tenths)
    moves = {
        "shear_x": (1, 0.3 * share, 0, 0, 1, 0),
        "shear_y": (1, 0, 0, 0.3 * share, 1, 0),
        "translate_x": (1, 0, int(0.3 * share * SIDE), 0, 1, 0),
        "translate_y": (1, 0, 0, 0, 1, int(0.3 * share * SIDE)),
    }
    if name in moves:
        return image.transform(image.size, Image.Transform.AFFINE, moves[name])
    others = {
        "identity": lambda: image,
        "rotate": lambda: image.rotate(3 * strength),
        "posterize": lambda: ImageOps.posterize(image, 4 + int(0.4 * tenths)),
        "solarize": lambda: ImageOps.solarize(image, 256 - int(25.6 * tenths)),
        "autocontrast": lambda: ImageOps.autocontrast(image),
        "equalize": lambda: ImageOps.equalize(image),
    }
    return others[name]()


@pytest.mark.parametrize(("num_ops", "share"), [(1, 1e-4), (2, 1e-3)])
def test_whole_images_are_pillow_s_with_the_same_draws(num_ops, share):
    images = smooth_noise(40, SIDE)
    for seed in range(10):
        made = fixmatch_augment(images, *draw_operations(40, num_ops, 10, torch.Generator().manual_seed(seed)), pytorch=True)
        generator = torch.Generator().manual_seed(seed)
        rounds, expected = [draw(40, 10, generator) for _ in range(num_ops)], []
        for place, x in enumerate(images):
            image = Image.fromarray(x.numpy())
            for operations, strengths in rounds:
                image = reference(image, NAMES[operations[place]], int(strengths[place]))
            expected.append(pixels(image.convert("RGBA"))[0])
        # A level's difference may grow: equalize and autocontrast stretch it, posterize and solarize cut beside it.
        assert ((made.int() - torch.stack(expected).int()).abs() > 1).float().mean() < share


@pytest.mark.parametrize("number", range(14), ids=NAMES)
def test_each_operation_is_pillow_s_at_every_strength(number):
    images = smooth_noise(8, SIDE)
    for strength in (sign * tenths for tenths in range(1, 10) for sign in (1, -1)):
        chosen = torch.full((1, 8), number), torch.full((1, 8), strength)
        made = fixmatch_augment(images, *chosen, pytorch=True)
        expected = torch.stack(
            [pixels(reference(Image.fromarray(x.numpy()), NAMES[number], strength).convert("RGBA"))[0] for x in images]
        )
        difference = (made.int() - expected.int()).abs()
        if NAMES[number] == "rotate":  # one pixel of 1024 lies between two, by less than Pillow's steps of 2 ** -16
            assert (difference > 0).float().mean() < 1e-3
        elif 6 <= number <= 9 or NAMES[number] == "autocontrast":  # roundings of one grey level
            assert difference.max() <= 1
        else:
            assert torch.equal(made, expected)


def test_the_cut_is_that_of_a_rectangle_of_pillow_whose_corner_is_drawn():
    """Every corner that a uniform point less 8 gives, cut off at the left and the upper border."""
    x = torch.full((1, SIDE, SIDE, 3), 255, dtype=torch.uint8)
    areas = set()
    for row in range(SIDE):
        for column in (0, 5, 8, 9, 20, 31):
            top, left = max(0, row - 8), max(0, column - 8)
            image = Image.fromarray(x[0].numpy())
            corners = left, top, min(SIDE, left + 16), min(SIDE, top + 16)
            ImageDraw.Draw(image).rectangle(corners, (127, 127, 127))
            made = cutout(x, 0.5, torch.tensor([row]), torch.tensor([column]), pushed=True)[0]
            assert torch.equal(made, pixels(image.convert("RGBA"))[0])
            areas.add(int((made[..., 0] == 127).sum()))
    assert max(areas) == 17 * 17
    assert min(areas) == 9 * 9


def test_the_stronger_the_more_bits_and_what_is_uncovered_is_black():
    levels = torch.arange(256).to(torch.uint8).view(1, 16, 16, 1)
    number = NAMES.index("posterize")
    made = [fixmatch_augment(levels, torch.tensor([[number]]), torch.tensor([[s]]), pytorch=True) for s in range(1, 10)]
    assert [len(each.unique()) for each in made] == [16, 16, 32, 32, 64, 64, 64, 128, 128]
    white = torch.full((1, SIDE, SIDE, 3), 255, dtype=torch.uint8)
    turned = fixmatch_augment(white, torch.tensor([[NAMES.index("rotate")]]), torch.tensor([[9]]), pytorch=True)
    assert turned[0, 0, 0].tolist() == [0, 0, 0]
    assert set(turned.unique().tolist()) == {0, 255}
