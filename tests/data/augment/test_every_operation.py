"""Views of fixed shapes: every image through every operation, then a choice. The bits are those of the grouped ones."""

import pytest
import torch

from fewlabels.data.augment import fixmatch, randaugment
from fewlabels.data.augment.views import KINDS, Views
from tests.conftest import smooth_noise
from tests.training.test_no_wait import VIEWS

OPTIONS = VIEWS | {
    "three operations": {"num_ops": 3, "magnitude": 29, "cutout": 0.3},
    "fixmatch for PyTorch": {"strong": "fixmatch_pytorch", "num_ops": 3},
    "no operation": {"num_ops": 0},
    "weak fixmatch": {"strong": "fixmatch", "num_ops": 1, "magnitude": 2},
    "not mirrored": {"flip": False, "reflect": False, "strong": "jitter"},
    "centre of the notebook": {"strong": "jitter", "reflect": False, "notebook": True, "crop": 20},
}


@pytest.fixture
def images():
    return smooth_noise(300, 24)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_all_views_have_the_same_bits_either_way(images, options, channels):
    images = images[..., :channels].contiguous()
    views = Views(mean=(0.4, 0.5, 0.6)[:channels], std=(0.2, 0.25, 0.3)[:channels], **options)
    wanted = {kind: kind for kind in KINDS} | {"turned": {"kind": "rotate", "turns": 3, "padding": 2}}
    numbers = views.draw(wanted, *images.shape[:3], torch.Generator().manual_seed(1))
    grouped, fixed = views.apply(wanted, images, numbers), views.apply(wanted, images, numbers, every=True)
    assert set(grouped) == set(fixed) == set(wanted)
    for name, view in grouped.items():
        assert torch.equal(view, fixed[name]), name
        assert view.stride() == fixed[name].stride(), name
    assert not torch.equal(fixed["strong"], fixed["weak"])


@pytest.mark.parametrize("number", range(14))
def test_each_operation_of_each_kind_has_the_same_bits(images, number):
    """At both signs and at every strength."""
    x = images[:36]
    for magnitude in (0, 7, 10, 30):
        drawn = torch.full((1, 36), number), torch.tensor([[-1, 1] * 18])
        one, other = randaugment.rand_augment(x, *drawn, magnitude), randaugment.rand_augment_every(x, *drawn, magnitude)
        assert torch.equal(one, other)
    strengths = torch.tensor([[s for s in range(-9, 10) if s] * 2])
    drawn = torch.full((1, 36), number), strengths
    twice = drawn[0].repeat(2, 1), strengths.repeat(2, 1)  # what the first one uncovered is grey or black
    for rounds in (drawn, twice):
        for pytorch in (False, True):
            made = fixmatch.fixmatch_augment_every(x, *rounds, pytorch)
            assert torch.equal(fixmatch.fixmatch_augment(x, *rounds, pytorch), made)


def test_sums_of_whole_numbers_leave_the_deterministic_algorithms_as_they_were():
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    for switch in ((True, True), (True, False), (False, False)):
        torch.use_deterministic_algorithms(switch[0], warn_only=switch[1])
        with randaugment.any_order():
            assert not torch.are_deterministic_algorithms_enabled()
        now = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
        assert now == switch
    torch.use_deterministic_algorithms(before[0], warn_only=before[1])
