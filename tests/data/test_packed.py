"""A batch's numbers as one tensor of bytes, and back."""

import torch

from fewlabels.data.loader import Drawn
from fewlabels.data.packed import pack, unpack


def drawn(count=3):
    random = torch.Generator().manual_seed(0)
    numbers = {
        "": {"flip": torch.rand(count, generator=random) < 0.5},
        "strong": {
            "factors": torch.rand(count, 4, generator=random),
            "shared": torch.tensor([7]).expand(count),
            "operations": torch.randint(14, (2, count), generator=random).t(),
            "none": torch.empty(count, 0),
        },
        "plain": {},
    }
    pixels = {"unlabelled": torch.randint(0, 256, (count, 5, 5, 1), dtype=torch.uint8, generator=random)}
    return Drawn(torch.tensor([4, 2]), torch.arange(count), {}, numbers, pixels)


def leaves(batch):
    yield from (batch.labelled, batch.unlabelled, *batch.pixels.values())
    for numbers in (batch.for_labelled, batch.for_unlabelled):
        for name, each in numbers.items():
            yield from ((name, key, value) for key, value in each.items())


def test_what_was_packed_comes_back_as_it_was():
    before = drawn()
    packed, layout = pack(before)
    after = unpack(packed, layout)
    assert packed.dtype == torch.uint8
    assert packed.ndim == 1
    for one, other in zip(leaves(before), leaves(after), strict=True):
        *name, one = one if isinstance(one, tuple) else (one,)
        *same, other = other if isinstance(other, tuple) else (other,)
        assert name == same
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
        assert other.numel() == 0 or other.untyped_storage().data_ptr() == packed.untyped_storage().data_ptr()


def test_a_layout_is_that_of_the_shapes_alone():
    assert pack(drawn())[1] == pack(drawn())[1]
    assert pack(drawn(3))[1] != pack(drawn(4))[1]
