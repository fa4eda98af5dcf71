"""Batches hold the images that the plan says, with their own labels."""

import numpy as np
import pytest
import torch

from fewlabels.data import loader as loader_module
from fewlabels.data.augment.views import Views
from fewlabels.data.images import ImageSet
from fewlabels.data.loader import Batching, Images, Loader
from fewlabels.data.splits import Split
from fewlabels.system.seeding import derive, generator

GOLDEN = ([5, 0], [22, 34, 29, 39, 27, 46])  # the same on every machine


def numbered(count):
    """Image i is filled with i, and its label is i modulo 3."""
    images = np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, 4, 4, 1)).copy()
    return ImageSet(images, np.arange(count) % 3)


def loader(labelled, unlabelled, views=("plain", "weak"), **batching):
    settings = {"size": 8, "labelled_share": 0.25, "epoch_of": "unlabelled", "order": "together"} | batching
    images = Images(numbered(60), Views(mean=(0.0,), std=(1.0,), padding=0), torch.device("cpu"))
    split = Split(np.arange(labelled), np.arange(20, 20 + unlabelled), np.arange(0))
    return Loader(images, split, Batching(**settings), {"plain": "plain"}, {name: name for name in views}, seed=0)


def epoch(source, number=0):
    return [source.batch(number, step) for step in range(source.plan.steps)]


def filled_with(view):
    return (view * 255).round().long()[:, 0, 0, 0]


def test_views_and_labels_belong_to_the_indices():
    for batch in epoch(loader(6, 30)):
        assert torch.equal(filled_with(batch.labelled["plain"]), batch.labelled_index)
        assert torch.equal(batch.labels, batch.labelled_index % 3)
        for name in ("plain", "weak"):
            assert torch.equal(filled_with(batch.unlabelled[name]), batch.unlabelled_index)


def test_together_every_batch_has_the_share_and_an_epoch_passes_over_the_unlabelled_set():
    batches = epoch(loader(6, 30))
    assert {(b.num_labelled, b.num_unlabelled) for b in batches} == {(2, 6)}
    assert sorted(torch.cat([b.unlabelled_index for b in batches]).tolist()) == list(range(20, 50))


def test_joined_an_epoch_passes_over_both_sets_as_one():
    source = loader(6, 34, labelled_share=None, epoch_of="all", order="joined")
    batches = epoch(source)
    assert sorted(torch.cat([b.labelled_index for b in batches]).tolist()) == list(range(6))
    assert sorted(torch.cat([b.unlabelled_index for b in batches]).tolist()) == list(range(20, 54))
    assert len({b.num_labelled for b in batches}) > 1
    assert all(b.num_labelled + b.num_unlabelled == 8 for b in batches)


def test_in_turn_each_set_is_passed_over_once_and_the_last_batch_is_short():
    batches = epoch(loader(10, 20, labelled_share=None, order="in_turn"))
    assert [(b.num_labelled, b.num_unlabelled) for b in batches] == [(8, 0), (2, 0), (0, 8), (0, 8), (0, 4)]
    assert sorted(torch.cat([b.labelled_index for b in batches]).tolist()) == list(range(10))
    assert all(b.unlabelled["weak"].shape[1:] == (1, 4, 4) for b in batches)


def test_in_turn_the_unlabelled_batches_may_have_a_size_of_their_own():
    batches = epoch(loader(10, 20, labelled_share=None, order="in_turn", unlabelled_size=15))
    assert [(b.num_labelled, b.num_unlabelled) for b in batches] == [(8, 0), (2, 0), (0, 15), (0, 5)]
    assert sorted(torch.cat([b.unlabelled_index for b in batches]).tolist()) == list(range(20, 40))


@pytest.mark.parametrize(
    "settings",
    [{}, {"order": "in_turn", "labelled_share": None}, {"order": "in_turn", "labelled_share": None, "max_steps": 1}],
)
def test_the_images_of_an_epoch_are_those_of_its_batches(settings):
    source = loader(10, 20, **settings)
    batches = epoch(source)
    assert source.epoch_images == sum(b.num_labelled + b.num_unlabelled for b in batches)


def test_a_method_without_unlabelled_views_gets_labelled_batches_only():
    batches = epoch(loader(6, 30, views=()))
    assert {(b.num_labelled, b.num_unlabelled) for b in batches} == {(8, 0)}


def test_an_epoch_can_be_restricted_to_some_unlabelled_images():
    source = loader(6, 30)
    source.plan_epoch(torch.tensor([25, 26, 27]))
    assert set(torch.cat([b.unlabelled_index for b in epoch(source)]).tolist()) == {25, 26, 27}
    source.plan_epoch(torch.empty(0, dtype=torch.int64))
    assert {b.num_unlabelled for b in epoch(source)} == {0}
    source.plan_epoch()
    assert len(set(torch.cat([b.unlabelled_index for b in epoch(source)]).tolist())) == 30


@pytest.mark.parametrize("threads", [1, 2])
def test_a_batch_is_a_function_of_seed_epoch_and_step(threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        batch = loader(6, 30).batch(3, 2)
    finally:
        torch.set_num_threads(before)
    assert (batch.labelled_index.tolist(), batch.unlabelled_index.tolist()) == GOLDEN


def test_every_batch_draws_of_its_own_from_the_seed_the_epoch_and_the_step(monkeypatch):
    drawn = []

    def record(*parts, device="cpu"):
        drawn.append(parts)
        return generator(*parts, device=device)

    monkeypatch.setattr(loader_module, "generator", record)
    places = [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)]
    for seed, epoch_number, step in places:
        source = loader(6, 30)
        source.seed = seed
        source.batch(epoch_number, step)
    assert len({derive(*parts) for parts in drawn if parts[1] == "views"}) == len(places)


def test_views_do_not_depend_on_the_number_of_threads():
    views = Views(mean=(0.5,) * 3, std=(0.5,) * 3)
    pixels = torch.randint(0, 256, (40, 32, 32, 3), dtype=torch.uint8, generator=generator("pixels"))
    threads, made = torch.get_num_threads(), []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            made.append(views.make_all({"weak": "weak", "strong": "strong"}, pixels, generator("views")))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(made[0][name], made[1][name]) for name in made[0])


@pytest.mark.parametrize("kind", ["weak", "strong", "flip"])
def test_a_view_of_a_whole_set_does_not_depend_on_how_many_images_go_at_once(kind, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (50, 16, 16, 3), dtype=np.uint8)
    images = Images(ImageSet(pixels, np.arange(50)), Views(mean=(0.5,) * 3, std=(0.5,) * 3), torch.device("cpu"))
    index, made = torch.randperm(50, generator=generator("order")), {}
    for size in (7, 1000):
        monkeypatch.setattr(loader_module, "PREDICT_BATCH", size)
        made[size] = list(images.iterate_view(index, kind, "seed"))
    assert [len(part) for part in made[7]] == [7] * 7 + [1]
    assert torch.equal(torch.cat(made[7]), torch.cat(made[1000]))
    assert not torch.equal(torch.cat(made[7]), torch.cat(list(images.iterate_view(index, kind, "another"))))
    if kind == "flip":  # which draws one number an image, and so drew the same part by part
        random = generator("seed")
        parts = [images.views.make(kind, images.gather(part), random) for part in index.split(7)]
        assert torch.equal(torch.cat(made[7]), torch.cat(parts))


def test_of_every_fourth_batch_the_labelled_images_begin_a_new_order():
    source, whole = loader(12, 38, size=4, labelled_share=0.5, every=4), loader(12, 38, size=4, labelled_share=0.5)
    assert (whole.plan.steps, source.plan.steps) == (19, 5)
    for number, batch in enumerate(epoch(source, 3)):
        assert torch.equal(batch.unlabelled_index, whole.batch(3, 4 * number).unlabelled_index)
        assert torch.equal(batch.labelled_index, whole.batch(3, 6 * number).labelled_index)  # six batches a pass
    source.plan_epoch(torch.empty(0, dtype=torch.int64))
    assert [batch.num_labelled for batch in epoch(source)] == [4] * 3


def test_batches_of_labelled_images_alone_may_have_a_size_of_their_own():
    source = loader(12, 36, size=8, labelled_share=0.25, labelled_size=5)
    assert {(b.num_labelled, b.num_unlabelled) for b in epoch(source)} == {(2, 6)}
    source.plan_epoch(torch.empty(0, dtype=torch.int64))
    assert [(b.num_labelled, b.num_unlabelled) for b in epoch(source)] == [(5, 0)] * 3
