"""Mean teacher's loss against numbers worked out in slow loops."""

import math

import pytest
import torch

from tests.methods.helpers import make_batch, setting


def softmax(row):
    powers = [math.exp(value - max(row)) for value in row]
    return [value / sum(powers) for value in powers]


def by_hand(s, progress, weight, ramp):
    """Loops over logits."""
    batch, network = s.batch, s.network
    teacher = s.ctx().teacher
    with torch.no_grad():
        student_logits = network(batch.unlabelled["student"]).tolist()
        teacher_logits = teacher(batch.unlabelled["teacher"]).tolist()
        labelled_logits = network(batch.labelled["weak"]).tolist() if len(batch.labels) else []
    squares = [
        (p - q) ** 2
        for mine, theirs in zip(student_logits, teacher_logits, strict=True)
        for p, q in zip(softmax(mine), softmax(theirs), strict=True)
    ]
    supervised = [-math.log(softmax(row)[label]) for row, label in zip(labelled_logits, batch.labels.tolist(), strict=True)]
    t = min(progress / ramp, 1.0) if ramp else 1.0
    factor = weight * math.exp(-5 * (1 - t) ** 2)
    loss = factor * sum(squares) / len(squares)
    return loss + sum(supervised) / len(supervised) if supervised else loss


@pytest.mark.parametrize("labelled", [0, 8])
@pytest.mark.parametrize(("progress", "ramp"), [(0.0, 0.4), (0.1, 0.4), (0.4, 0.4), (0.9, 0.4), (0.0, 0.0)])
def test_loss_is_the_papers(configure, labelled, progress, ramp):
    s = setting("mean_teacher", configure, labelled=labelled, weight=7.0, ramp=ramp)
    out = s.method.step(s.ctx(progress=torch.tensor(progress)), s.batch)
    assert out.loss.item() == pytest.approx(by_hand(s, progress, 7.0, ramp), rel=1e-4)


def test_the_teacher_gets_no_gradient(configure):
    s = setting("mean_teacher", configure)
    teacher = s.ctx().teacher.requires_grad_(True)
    s.method.step(s.ctx(), s.batch).loss.backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert any(parameter.grad is not None for parameter in s.network.parameters())


def test_each_sees_a_view_of_its_own(configure):
    s = setting("mean_teacher", configure)
    before = s.method.step(s.ctx(), s.batch).terms["consistency"]
    s.batch.unlabelled["teacher"] = s.batch.unlabelled["teacher"].flip(-1) * 0.5
    assert s.method.step(s.ctx(), s.batch).terms["consistency"] != before


def test_a_batch_without_unlabelled_images_is_supervised(configure):
    s = setting("mean_teacher", configure)
    batch = make_batch(unlabelled=0, views=dict(s.method.unlabelled_views))
    expected = torch.nn.functional.cross_entropy(s.network(batch.labelled["weak"]), batch.labels)
    torch.testing.assert_close(s.method.step(s.ctx(), batch).loss, expected)
