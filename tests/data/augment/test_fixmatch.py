"""FixMatch's strong augmentation against Pillow, one image at a time, with the same draws."""

import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from fewlabels.data.augment import randaugment
from fewlabels.data.augment.fixmatch import apply_operations, draw, draw_operations, fixmatch_augment
from fewlabels.data.augment.geometry import crop_and_flip
from fewlabels.data.augment.randaugment import cutout, draw_cut, rand_augment
from fewlabels.data.augment.views import Views
from fewlabels.types import UserError
from tests.conftest import smooth_noise

NAMES = ["identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate", "brightness", "color", "contrast"]
NAMES += ["sharpness", "posterize", "solarize", "autocontrast", "equalize"]
MOVES, BLENDS = NAMES[1:6], NAMES[6:10]
STRENGTHS = [sign * strength for strength in range(1, 10) for sign in (1, -1)]


@pytest.fixture
def images():
    return smooth_noise(40, 32)


def reference(image, name, strength):
    """One operation on one transparent Pillow image ``RGBA``, by the paper's table."""
    (width, height), size, share = image.size, abs(strength) / 10, strength / 10
    if name in MOVES:
        if name == "rotate":
            return image.rotate(round(30 * share))
        left, up = (int(math.copysign(abs(strength) * 3 * side // 100, strength)) for side in (width, height))
        matrix = {
            "shear_x": (1, 0.3 * share, 0, 0, 1, 0),
            "shear_y": (1, 0, 0, 0.3 * share, 1, 0),
            "translate_x": (1, 0, left, 0, 1, 0),
            "translate_y": (1, 0, 0, 0, 1, up),
        }[name]
        return image.transform(image.size, Image.Transform.AFFINE, matrix)
    if name in BLENDS:
        return getattr(ImageEnhance, name.capitalize())(image).enhance(0.05 + 0.9 * size)
    plain = image.convert("RGB")
    if name == "posterize":
        plain = ImageOps.posterize(plain, 8 - int(4 * size))
    elif name == "solarize":
        plain = ImageOps.solarize(plain, 256 - int(256 * size))
    elif name == "autocontrast":
        plain = ImageOps.autocontrast(plain)
    elif name == "equalize":
        plain = ImageOps.equalize(plain)
    return plain.convert("RGBA") if name != "identity" else image


def pillow(x):
    return Image.fromarray(x.numpy()).convert("RGBA")


def pixels(image):
    """Colours ``[H, W, 3]`` and what is seen ``[H, W, 1]``."""
    return torch.from_numpy(np.array(image)).split([3, 1], dim=2)


def only(number, count):
    return [count if each == number else 0 for each in range(14)]


@pytest.mark.parametrize("number", range(1, 14), ids=NAMES[1:])
@pytest.mark.parametrize("before", [0, 5], ids=["whole", "turned"])
def test_each_operation_is_pillow_s(images, number, before):
    """With every strength, on whole images and on some with transparent corners."""
    name = NAMES[number]
    turned = [reference(pillow(x), "rotate", 7 * (before > 0)) for x in images]
    seen = torch.stack([pixels(image)[1] for image in turned])
    x = torch.stack([pixels(image)[0] for image in turned])
    for strength in STRENGTHS:
        strengths = torch.full((len(x),), strength)
        done, left = apply_operations(x, seen.expand_as(x).contiguous(), only(number, len(x)), strengths)
        colours, mask = map(torch.stack, zip(*(pixels(reference(image, name, strength)) for image in turned), strict=True))
        difference = (done.int() - colours.int()).abs()
        if name == "rotate":  # one pixel of 1024 lies between two, by less than Pillow's steps of 2 ** -16
            assert (left != mask).float().mean() < 1e-3
            assert (difference > 0).float().mean() < 1e-3
            continue
        assert torch.equal(left, mask.expand_as(left))
        # One grey level, where Pillow's luminance and its mean are whole numbers, and its weights of single precision.
        rounded = {"color": 0.7, "contrast": 0.7, "brightness": 0.05, "sharpness": 0.05, "autocontrast": 0.05}
        assert difference.max() <= (name in rounded)
        assert (difference > 0).float().mean() <= rounded.get(name, 0)


@pytest.mark.parametrize("shape", [(24, 20), (40, 56)])
def test_moves_are_shares_of_the_side_they_are_along(shape):
    x = torch.randint(0, 256, (1, *shape, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    for number, name in enumerate(MOVES, start=1):
        for strength in STRENGTHS:
            done, _ = apply_operations(x, torch.full_like(x, 255), only(number, 1), torch.tensor([strength]))
            expected = pixels(reference(pillow(x[0]), name, strength))[0]
            assert (done[0] != expected).float().mean() < 0.01, (name, strength)


def test_the_ends_of_the_ranges():
    """A positive strength moves left and up, and turns left."""
    x = torch.full((1, 32, 32, 3), 200, dtype=torch.uint8)

    def made(name, strength):
        return apply_operations(x, torch.full_like(x, 255), only(NAMES.index(name), 1), torch.tensor([strength]))

    for name, side in (("translate_x", 1), ("translate_y", 0)):
        for strength, uncovered in ((1, []), (-1, []), (9, range(24, 32)), (-9, range(8)), (4, range(29, 32))):
            seen = made(name, strength)[1][0, ..., 0].amin(1 - side)
            assert (seen == 0).nonzero().flatten().tolist() == list(uncovered)
    assert [made("brightness", s)[0].max().item() for s in (1, 5, -9)] == [28, 100, 172]  # 0.14, 0.5 and 0.86
    levels = torch.arange(256).to(torch.uint8).view(1, 16, 16, 1)
    for name, expected in (
        ("posterize", {1: 256, 2: 256, 3: 128, 4: 128, 5: 64, 7: 64, 8: 32, 9: 32}),
        ("solarize", {1: 231, 5: 128, 9: 26}),  # as many values stay different: all below the threshold
    ):
        for strength, count in expected.items():
            done, _ = apply_operations(
                levels, torch.full_like(levels, 255), only(NAMES.index(name), 1), torch.tensor([strength])
            )
            same = done == levels
            found = len(done.unique()) if name == "posterize" else int(same.flatten().int().cumprod(0).sum())
            assert found == count, (name, strength)


def test_groups_of_images_go_through_their_operations(images):
    counts = [0, 2, 1, 3, 1, 2, 1, 2, 0, 3, 1, 1, 2, 1]
    x = images[: sum(counts)]
    seen = torch.full_like(x, 255)
    seen[:, :5] = 0
    strengths = torch.tensor([1, -4, 9, -7] * 5)
    parts = zip(*(each.split(counts[1:]) for each in (x, seen, strengths)), strict=True)
    expected = [
        apply_operations(part, mask, only(number, len(part)), own)
        for number, (part, mask, own) in enumerate(parts, start=1)
        if len(part)
    ]
    for made, each in zip(apply_operations(x, seen, counts, strengths), zip(*expected, strict=True), strict=True):
        assert torch.equal(made, torch.cat(each))


def one_by_one(images, num_ops, generator):
    """The reference with the same draws; what is not seen in the end is mid-grey."""
    rounds = [draw(len(images), 10, generator) for _ in range(num_ops)]
    made = []
    for place, x in enumerate(images):
        image = pillow(x)
        for operations, strengths in rounds:
            image = reference(image, NAMES[operations[place]], int(strengths[place]))
        colours, seen = pixels(image)
        made.append(torch.where(seen == 0, 127, colours))
    return torch.stack(made)


@pytest.mark.parametrize(("num_ops", "share"), [(1, 1e-4), (2, 1e-3), (3, 0.02)])
def test_whole_images_are_pillow_s_one_at_a_time_with_the_same_draws(images, num_ops, share):
    before = images.clone()
    for seed in range(10):
        made = fixmatch_augment(images, *draw_operations(40, num_ops, 10, torch.Generator().manual_seed(seed)))
        expected = one_by_one(images, num_ops, torch.Generator().manual_seed(seed))
        difference = (made.int() - expected.int()).abs()
        # A level's difference may grow: equalize and autocontrast stretch it, posterize and solarize cut beside it.
        assert (difference > 1).float().mean() < share
    assert torch.equal(images, before)


def test_what_a_move_uncovers_is_grey_unless_an_operation_took_it_for_the_image():
    x = torch.full((1, 32, 32, 3), 200, dtype=torch.uint8)
    corners = {}
    for second in NAMES:
        image, seen = apply_operations(x, torch.full_like(x, 255), only(NAMES.index("rotate"), 1), torch.tensor([9]))
        if second != "identity":
            image, seen = apply_operations(image, seen, only(NAMES.index(second), 1), torch.tensor([5]))
        corners[second] = int(torch.where(seen > 0, image, 127)[0, 0, 0, 0])
    opaque = NAMES[10:]
    assert {name: corners[name] for name in opaque} == dict.fromkeys(opaque, 0)
    assert all(corner == 127 for name, corner in corners.items() if name not in opaque)


def test_operations_are_drawn_evenly_and_left_out_half_of_the_time(generator):
    """Counts within five standard deviations; two rounds are independent, so an operation may come twice."""
    count = 100_000
    (first, strength), (second, _) = draw(count, 10, generator), draw(count, 10, generator)

    def near(counts, shares):
        shares = torch.as_tensor(shares, dtype=torch.float64)
        assert ((counts - count * shares).abs() < 5 * (count * shares * (1 - shares)).sqrt()).all()

    once = [1 / 2 + 1 / 28] + [1 / 28] * 13
    near(torch.bincount(first, minlength=14), once)
    near(torch.bincount(first * 14 + second, minlength=196), torch.outer(*torch.tensor([once, once])).flatten())
    assert strength.abs().unique().tolist() == list(range(1, 10))
    near(torch.bincount(strength.abs(), minlength=10)[1:], [1 / 9] * 9)
    near((strength > 0).sum(), 0.5)
    near(torch.bincount(first * 10 + strength.abs(), minlength=140)[11:20], [1 / 28 / 9] * 9)


def test_smaller_magnitudes_draw_smaller_strengths(generator):
    assert draw(500, 4, generator)[1].abs().unique().tolist() == [1, 2, 3]
    assert draw(50, 2, generator)[1].abs().unique().tolist() == [1]


def test_images_that_draw_nothing_stay(images, generator):
    assert torch.equal(fixmatch_augment(images, *draw_operations(40, 0, 10, generator)), images)
    one = images[:1]
    for seed in range(20):
        made = fixmatch_augment(one, *draw_operations(1, 1, 10, torch.Generator().manual_seed(seed)))
        if draw(1, 10, torch.Generator().manual_seed(seed))[0] == 0:
            assert torch.equal(made, one)


@pytest.mark.parametrize(
    "options", [{}, *({"strong": name} for name in ("randaugment", "fixmatch", "fixmatch_pytorch"))], ids=str
)
def test_a_strong_view_is_the_weak_one_augmented_and_cut(images, options):
    """The draws one after the other, and with no options those of RandAugment."""
    views = Views(mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3), **options)
    random = torch.Generator().manual_seed(8)
    flip = torch.rand(40, generator=random) < 0.5
    top, left = (torch.randint(-4, 5, (40,), generator=random) for _ in range(2))
    x = crop_and_flip(images, flip, top, left, (32, 32), True)
    pytorch = options.get("strong") == "fixmatch_pytorch"
    if pytorch or options.get("strong") == "fixmatch":
        x = fixmatch_augment(x, *draw_operations(40, 2, 10, random), pytorch)
    else:
        x = rand_augment(x, *randaugment.draw_operations(40, 2, random), 10)
    expected = views._normalise(cutout(x, 0.5, *draw_cut(40, 32, 32, random), pytorch))
    assert torch.equal(views.make("strong", images, torch.Generator().manual_seed(8)), expected)


def test_the_cut_is_half_the_side_and_mid_grey(images, generator):
    x = images.clamp(128, 255)
    made = Views(mean=(0,) * 3, std=(1,) * 3, strong="fixmatch", num_ops=0, padding=0).make("strong", x, generator)
    cut = ((made * 255).round() == 127).all(1)
    assert cut.flatten(1).sum(1).max() == 16 * 16
    assert cut.flatten(1).sum(1).min() >= 8 * 8


@pytest.mark.parametrize("magnitude", [0, 1, 11, 30])
def test_strengths_outside_of_the_ranges_are_refused(magnitude):
    Views(mean=(0.5,), std=(0.5,), magnitude=magnitude)
    for strong in ("fixmatch", "fixmatch_pytorch"):
        with pytest.raises(UserError, match=f"views.strong={strong} .* views.magnitude={magnitude} must be from 2 to 10"):
            Views(mean=(0.5,), std=(0.5,), strong=strong, magnitude=magnitude)
