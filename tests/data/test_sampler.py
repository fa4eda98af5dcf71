"""Two streams, a fixed share, and batches that are a function of seed, epoch and step."""

import pytest
import torch

from fewlabels.data.sampler import EpochPlan, Stream, plan_epoch
from fewlabels.types import UserError


def plan(labelled, unlabelled, **changes):
    settings = {"size": 64, "labelled_share": 0.25, "epoch_of": "unlabelled"} | changes
    return plan_epoch(labelled, unlabelled, **settings)


def test_a_stream_passes_over_all_images_and_then_again_in_another_order():
    stream = Stream(torch.arange(100, 110), seed=0, name="s")
    drawn = torch.cat([stream.take(0, start, 4) for start in range(0, 20, 4)])
    first, second = drawn[:10].tolist(), drawn[10:].tolist()
    assert sorted(first) == sorted(second) == list(range(100, 110))
    assert first != second


def test_a_stream_is_the_same_wherever_one_starts_to_read():
    stream = Stream(torch.arange(7), seed=1, name="s")
    whole = stream.take(2, 0, 30)
    again = Stream(torch.arange(7), seed=1, name="s")
    assert torch.equal(again.take(2, 11, 9), whole[11:20])


def test_epochs_seeds_and_names_have_orders_of_their_own():
    orders = {
        tuple(Stream(torch.arange(20), seed=seed, name=name).take(epoch, 0, 20).tolist())
        for seed in (0, 1)
        for name in ("a", "b")
        for epoch in (0, 1)
    }
    assert len(orders) == 8


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (dict(labelled=40, unlabelled=480), EpochPlan(10, 16, 48)),
        (dict(labelled=40, unlabelled=481), EpochPlan(11, 16, 48)),
        (dict(labelled=40, unlabelled=480, epoch_of="labelled"), EpochPlan(3, 16, 48)),
        (dict(labelled=64, unlabelled=192, epoch_of="all"), EpochPlan(4, 16, 48)),
        (dict(labelled=40, unlabelled=0), EpochPlan(1, 64, 0)),
        (dict(labelled=0, unlabelled=640), EpochPlan(10, 0, 64)),
        (dict(labelled=0, unlabelled=640, epoch_of="labelled"), EpochPlan(10, 0, 64)),
        (dict(labelled=100, unlabelled=300, labelled_share=None, epoch_of="all"), EpochPlan(7, 16, 48)),
        (dict(labelled=99950, unlabelled=50, labelled_share=None, epoch_of="all"), EpochPlan(1563, 63, 1)),
        (dict(labelled=40, unlabelled=480, labelled_share=1.0, epoch_of="labelled"), EpochPlan(1, 64, 0)),
        (dict(labelled=40, unlabelled=480, fixed_steps=5), EpochPlan(5, 16, 48)),
        (dict(labelled=40, unlabelled=480, max_steps=3), EpochPlan(3, 16, 48)),
        (dict(labelled=40, unlabelled=480, every=4, max_steps=2), EpochPlan(2, 16, 48, every=4)),
        (dict(labelled=40, unlabelled=480, every=50), EpochPlan(1, 16, 48, every=50)),
        (dict(labelled=40, unlabelled=480, labelled_size=8), EpochPlan(10, 16, 48)),
        (dict(labelled=40, unlabelled=0, every=4), EpochPlan(1, 64, 0)),
        (dict(labelled=40, unlabelled=0, labelled_size=8), EpochPlan(5, 8, 0)),
        (
            dict(labelled=130, unlabelled=65, labelled_share=None, order="in_turn"),
            EpochPlan(5, 64, 64, "in_turn", labelled_steps=3),
        ),
        (
            dict(labelled=130, unlabelled=65, labelled_share=None, order="in_turn", unlabelled_size=50),
            EpochPlan(5, 64, 50, "in_turn", labelled_steps=3),
        ),
        (
            dict(labelled=100, unlabelled=300, labelled_share=None, epoch_of="all", order="joined"),
            EpochPlan(7, 16, 48, "joined"),
        ),
    ],
)
def test_epoch_plans(arguments, expected):
    assert plan(**arguments) == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labelled_share": 0.005}, "leaves no labelled image in a batch of 64"),
        ({"order": "joined"}, "batch.labelled_share has no meaning with batch.order=joined"),
        ({"order": "in_turn", "labelled_share": None, "fixed_steps": 4}, "batch.steps has no meaning"),
        ({"unlabelled_size": 4}, "batch.unlabelled_size has no meaning with batch.order=together"),
        ({"every": 2, "order": "joined", "labelled_share": None}, "batch.every has no meaning with batch.order=joined"),
        ({"labelled_size": 2, "order": "in_turn", "labelled_share": None}, "batch.labelled_size has no meaning with"),
        ({"every": 2, "fixed_steps": 4}, "batch.steps has no meaning with batch.every"),
    ],
)
def test_bad_settings_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        plan(40, 480, **changes)


def test_no_images_at_all_are_refused():
    with pytest.raises(UserError, match="nothing to train on"):
        plan(0, 0)


def steps_of_a_loop(labelled, unlabelled, size, epochs):
    """Steps an epoch where one is made only as the labelled batches, drawn one for each unlabelled one, are used up."""
    left, made = iter(range(-(-labelled // size))), []
    for _ in range(epochs):
        made.append(0)
        for _ in range(-(-unlabelled // size)):
            try:
                next(left)
            except StopIteration:
                left = iter(range(-(-labelled // size)))
                next(left)
                made[-1] += 1
    return made


@pytest.mark.parametrize(
    ("labelled", "size", "every", "steps"),
    [(4000, 1024, 4, 12), (250, 250, 1, 200), (2500, 1024, 3, 16), (10000, 1024, 10, 5)],
)
def test_every_so_many_batches_are_as_many_steps_as_those_of_a_loop_over_the_labelled_ones(labelled, size, every, steps):
    found = plan(labelled, 50000, size=2 * size, labelled_share=0.5, every=every)
    assert (found.steps, found.labelled, found.unlabelled) == (steps, size, size)
    made = steps_of_a_loop(labelled, 50000, size, epochs=50)
    assert steps in made[1:]
    assert abs(sum(made) / 50 - steps) < 0.5
