"""Batched views against torchvision's per-image functions with the same parameters."""

import pytest
import torch
import torchvision.transforms.functional as F
from torchvision.transforms import InterpolationMode, RandAugment
from torchvision.transforms.autoaugment import _apply_op

from fewlabels.data.augment import color_jitter as jitter
from fewlabels.data.augment.geometry import crop_and_flip, mixed, turned
from fewlabels.data.augment.randaugment import apply_operations, cutout, draw_cut, draw_operations, rand_augment
from fewlabels.data.augment.views import STRONG, Draws, Views
from fewlabels.types import UserError

NAMES = ["Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast"]
NAMES += ["Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize"]


@pytest.fixture
def images():
    """``[20, 24, 32, 3]`` uint8: noise, one flat image, one of two values."""
    x = torch.randint(0, 256, (20, 24, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    x[1] = 7
    x[2] = (x[2] > 127).to(torch.uint8) * 200
    return x


def planar(x):
    return x.permute(0, 3, 1, 2)


def only(number, count=20):
    """``count`` images that all drew the same operation."""
    return [count if each == number else 0 for each in range(14)]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("magnitude", [0, 7, 10, 30])  # 7: a threshold between two grey levels
@pytest.mark.parametrize("number", range(14), ids=NAMES)
def test_each_operation_of_randaugment_is_torchvision_s(images, number, magnitude, channels):
    images = images[..., :channels].contiguous()
    levels, signed = RandAugment()._augmentation_space(31, (24, 32))[NAMES[number]]
    level = float(levels[magnitude]) if levels.ndim else 0.0
    for sign in (1.0, -1.0):
        value = level * sign if signed else level
        expected = torch.stack([_apply_op(x, NAMES[number], value, InterpolationMode.NEAREST, None) for x in planar(images)])
        ours = apply_operations(images, only(number), torch.full((20,), sign), magnitude)
        difference = (planar(ours).int() - expected.int()).abs()
        # All but equal: a luminance added up in another order may truncate to the level beside.
        assert difference.max() <= 1
        assert (difference > 0).float().mean() < 1e-3


@pytest.mark.parametrize("number", [1, 3, 5, 6, 9])
def test_signs_are_one_an_image(images, number):
    sign = torch.tensor([1.0, -1.0]).repeat(10)
    mixed = apply_operations(images, only(number), sign, 20)
    for s in (1.0, -1.0):
        alone = apply_operations(images, only(number), torch.full((20,), s), 20)
        assert torch.equal(mixed[sign == s], alone[sign == s])


def test_groups_of_images_go_through_their_operations():
    x = torch.randint(0, 256, (21, 12, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    counts = [1, 2, 1, 3, 1, 2, 1, 2, 0, 3, 1, 1, 2, 1]
    sign = torch.tensor([1.0, -1.0, -1.0]).repeat(7)
    groups = zip(x.split(counts), sign.split(counts), strict=True)
    expected = [apply_operations(part, only(number, len(part)), signs, 15) for number, (part, signs) in enumerate(groups)]
    assert torch.equal(apply_operations(x, counts, sign, 15), torch.cat(expected))


def test_each_image_goes_through_the_operation_that_it_drew_and_comes_back_to_its_place(images):
    draws = torch.Generator().manual_seed(4)
    choice, coin = torch.randint(14, (20,), generator=draws), torch.randint(2, (20,), generator=draws)
    expected = [
        apply_operations(image, only(number, 1), torch.tensor([2.0 * heads - 1]), 10)
        for image, number, heads in zip(images.split(1), choice.tolist(), coin.tolist(), strict=True)
    ]
    drawn = draw_operations(20, 1, torch.Generator().manual_seed(4))
    assert torch.equal(rand_augment(images, *drawn, 10), torch.cat(expected))


@pytest.mark.parametrize("reflect", [True, False])
def test_crop_and_flip_is_pad_crop_and_mirror(images, reflect):
    random = torch.Generator().manual_seed(1)
    top, left = (torch.randint(-4, 5, (20,), generator=random) for _ in range(2))
    flip = torch.rand(20, generator=random) < 0.5
    ours = planar(crop_and_flip(images, flip, top, left, (24, 32), reflect))
    for x, y, y0, x0, f in zip(planar(images), ours, top.tolist(), left.tolist(), flip.tolist(), strict=True):
        expected = F.crop(F.pad(x, [4], padding_mode="reflect" if reflect else "constant"), y0 + 4, x0 + 4, 24, 32)
        assert torch.equal(y, F.hflip(expected) if f else expected)


@pytest.mark.parametrize(("batch", "kind"), [(30_000, torch.int32), (33_000, torch.int64)])
def test_indices_are_as_wide_as_the_batch_asks_for(batch, kind, monkeypatch):
    """On the meta device, whose two thousand million pixels take no room."""
    seen, select = [], torch.Tensor.index_select
    monkeypatch.setattr(
        torch.Tensor, "index_select", lambda x, dim, index: seen.append(index.dtype) or select(x, dim, index)
    )
    place = torch.zeros(batch, dtype=torch.int64)
    images = torch.empty(batch, 256, 256, 1, dtype=torch.uint8, device="meta")
    crop_and_flip(images, place.bool(), place, place, (1, 1))
    assert seen == [kind]


@pytest.mark.parametrize("signed", [False, True], ids=["0..1", "-1..1"])
def test_jitter_is_torchvision_s_with_each_image_s_own_order(signed):
    random = torch.Generator().manual_seed(2)
    x = torch.rand(60, 3, 16, 16, generator=random)
    x[3] = 0.5
    x = x * 2 - 1 if signed else x
    order = torch.rand(60, 4, generator=random).argsort(1)
    factors = torch.cat(
        [0.6 + 0.8 * torch.rand(60, 3, generator=random), torch.rand(60, 1, generator=random) * 0.2 - 0.1], 1
    )
    ops = [F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue]
    expected = []
    for image, places, values in zip(x, order.tolist(), factors.tolist(), strict=True):
        for place in places:
            image = ops[place](image, values[place])
        expected.append(image)
    torch.testing.assert_close(jitter.jitter(x, order, factors), torch.stack(expected), rtol=0, atol=2e-5)


def test_a_colour_whose_brightest_channel_is_zero_has_a_hue():
    """torchvision divides by it. The notebook's values lie in [-1, 1]."""
    pixel = torch.tensor([-0.5, 0.0, -0.25]).view(1, 3, 1, 1)
    assert jitter.hue(pixel, torch.tensor([0.25])).isfinite().all()


def test_jitter_of_grey_images_leaves_saturation_and_hue_alone():
    x = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    order = torch.tensor([[2, 3, 2, 3]]).expand(8, 4)  # saturation and hue only
    assert torch.equal(jitter.jitter(x, order, torch.full((8, 4), 0.1)), x)


def test_blur_is_torchvision_s():
    random = torch.Generator().manual_seed(4)
    x, sigma = torch.rand(10, 3, 12, 12, generator=random), 0.1 + 1.9 * torch.rand(10, generator=random)
    expected = torch.stack([F.gaussian_blur(image, [3, 3], [s, s]) for image, s in zip(x, sigma.tolist(), strict=True)])
    torch.testing.assert_close(jitter.blur3(x, sigma), expected, rtol=0, atol=2e-6)


def test_cutout_greys_one_square_an_image(images, generator):
    images = images.clamp(128, 255)  # so that 127 is the cut alone
    cut = (cutout(images, 0.5, *draw_cut(20, 24, 32, generator)) == 127).all(-1)
    for mask in cut:
        rows, columns = mask.any(1).nonzero().squeeze(1), mask.any(0).nonzero().squeeze(1)
        height, width = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
        assert mask.sum() == height * width  # a full rectangle
        assert 6 <= height <= 12
        assert 8 <= width <= 16
    assert len({tuple(mask.nonzero()[0].tolist()) for mask in cut}) > 5


def views(**changes):
    return Views(**({"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.25, 0.3)} | changes))


def test_plain_is_torchvision_s_normalisation(images, generator):
    expected = torch.stack([F.normalize(x.float() / 255, [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]) for x in planar(images)])
    ours = views().make("plain", images, generator)
    torch.testing.assert_close(ours, expected, rtol=0, atol=2e-6)
    assert ours.is_contiguous(memory_format=torch.channels_last)


def test_each_image_centred_and_scaled_by_itself(images, generator):
    made = views(per_image=True).make("plain", images, generator)
    for x, y in zip(planar(images).double(), made.double(), strict=True):
        centred = x - x.mean()
        expected = centred / centred.abs().max() if centred.abs().max() > 0 else centred
        torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)


def test_flip_mirrors_some_images_and_changes_no_other(images, generator):
    plain, flipped = views().make("plain", images, generator), views().make("flip", images, generator)
    same = (flipped == plain).flatten(1).all(1)
    mirrored = (flipped == plain.flip(3)).flatten(1).all(1)
    assert (same | mirrored).all()
    assert 3 < mirrored.sum() < 18


def test_digits_are_never_mirrored(images, generator):
    assert torch.equal(views(flip=False).make("flip", images, generator), views().make("plain", images, generator))


@pytest.mark.parametrize("strong", STRONG)
@pytest.mark.parametrize("channels", [1, 3])
def test_strong_views_differ_from_image_to_image(images, generator, strong, channels):
    same = images[:1, ..., :channels].expand(20, -1, -1, -1)
    made = views(mean=(0.5,) * channels, std=(0.5,) * channels, strong=strong).make("strong", same, generator)
    assert made.shape == (20, channels, 24, 32)
    assert torch.isfinite(made).all()
    assert len({image.sum().item() for image in made}) > 15


def test_the_notebook_draws_one_set_of_parameters_for_a_whole_batch(images):
    settings = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "strong": "jitter", "notebook": True, "flip": False, "reflect": False}
    same = images[:1].expand(20, -1, -1, -1)
    for name in ("weak", "strong"):
        for seed in range(5):
            made = views(**settings).make(name, same, torch.Generator().manual_seed(seed))
            assert torch.equal(made, made[:1].expand_as(made))
    weak = views(**settings).make("weak", same, torch.Generator().manual_seed(3))
    # Padding comes after the normalisation there: a border of exactly 0, mid-grey.
    assert (weak[0] == 0).all(0).any()
    strong = views(**settings).make("strong", same, torch.Generator().manual_seed(3))
    assert strong.min() >= 0  # the jitter clamps [-1, 1] to [0, 1]


def test_the_same_generator_gives_the_same_view(images):
    made = [views().make("strong", images, torch.Generator().manual_seed(5)) for _ in range(2)]
    assert torch.equal(*made)
    assert not torch.equal(made[0], views().make("strong", images, torch.Generator().manual_seed(6)))


def test_crops_smaller_than_the_image(images, generator):
    small = views(crop=16, padding=0)
    assert small.make("weak", images, generator).shape == (20, 3, 16, 16)
    centre = views().make("plain", images, generator)[:, :, 4:20, 8:24]
    assert torch.equal(small.make("plain", images, generator), centre)


def test_rand_augment_changes_most_images(images, generator):
    changed = (rand_augment(images, *draw_operations(len(images), 2, generator), 10) != images).flatten(1).any(1)
    assert changed.sum() >= 15


def test_shared_draws_repeat_one_value(generator):
    assert len(set(Draws(9, generator, shared=True).uniform(0, 1).tolist())) == 1
    assert len(set(Draws(9, generator, shared=False).uniform(0, 1).tolist())) == 9


def test_unknown_views_are_refused(images, generator):
    for wanted, message in {
        "stronger": "no kind 'stronger': plain, flip, weak, strong, rotate",
        None: "no kind None",
    }.items():
        with pytest.raises(UserError, match=message):
            views().make(wanted, images, generator)
    for view, message in (
        ({"kind": "strong", "magnitud": 3}, "no option 'magnitud': padding"),
        (
            {"kind": "strong", "strong": "jiter"},
            "views.strong=jiter is none of randaugment, fixmatch, fixmatch_pytorch, jitter",
        ),
        ({"kind": "weak", "turns": 1}, "turns=1 is a whole number, of the kind rotate alone"),
        ({"kind": "rotate", "turns": 0.5}, "turns=0.5 is a whole number"),
    ):
        with pytest.raises(UserError, match=message):
            views().make_all({"mine": view}, images, generator)
    with pytest.raises(UserError, match="as a mapping from names to kinds"):
        views().make_all(("weak", "strong"), images, generator)


def test_views_of_one_kind_have_draws_of_their_own(images, generator):
    made = views().make_all({"one": "strong", "other": "strong"}, images, generator)
    assert not torch.equal(made["one"], made["other"])


def test_a_view_may_have_options_of_its_own(images, generator):
    made = views(padding=0, flip=False).make_all(
        {"plain": "plain", "same": {"kind": "strong", "num_ops": 0, "cutout": 0.0}, "other": "strong"}, images, generator
    )
    assert torch.equal(made["same"], made["plain"])
    assert not torch.equal(made["other"], made["plain"])


def test_a_turned_view_is_the_weak_one_turned_left(images):
    settings = views(padding=0, flip=False)
    with pytest.raises(UserError, match="a quarter turn needs square images"):
        settings.make_all({"turned": {"kind": "rotate", "turns": 1}}, images, torch.Generator())
    images = images[:, :, :24]
    made = settings.make_all(
        {"plain": "plain", **{f"{n}": {"kind": "rotate", "turns": n} for n in range(4)}}, images, torch.Generator()
    )
    corner = made["plain"][:, :, 0, -1]  # goes from top right to top left
    assert torch.equal(made["1"][:, :, 0, 0], corner)
    for turns in range(4):
        assert torch.equal(made[f"{turns}"], torch.rot90(made["plain"], turns, (2, 3)))
    each = turned(made["plain"], torch.arange(len(images)) % 4)
    for number, image in enumerate(each):
        assert torch.equal(image, made[f"{number % 4}"][number])


def test_mixing_takes_its_share_of_each():
    one, other = torch.ones(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
    half = mixed(one, other, torch.tensor([0.25, 1.0]))
    assert (half[0] == 0.25).all()
    assert (half[1] == 1).all()
    targets = mixed(torch.eye(2), torch.eye(2).flip(0), torch.tensor([0.75, 0.5]))
    assert targets.tolist() == [[0.75, 0.25], [0.5, 0.5]]
