"""J_M and J_B against plain loops in float64, and the accumulated gradient against the whole batch's."""

import math

import pytest
import torch

from fewlabels.losses import mean_entropy, negative_batch_entropy


def entropy(p):
    return -sum(x * math.log(x) for x in p if x > 0)


def softmax(row):
    top = max(row)
    e = [math.exp(x - top) for x in row]
    return [x / sum(e) for x in e]


ROWS = [[0.3, -1.2, 2.0], [5.0, 5.0, -30.0], [0.0, 0.0, 0.0], [-2.0, 1.0, 0.5]]


def test_mean_entropy_is_the_mean_of_each_entropy():
    expected = sum(entropy(softmax(row)) for row in ROWS) / len(ROWS)
    assert mean_entropy(torch.tensor(ROWS, dtype=torch.float64)).item() == pytest.approx(expected, rel=1e-12)


def test_negative_batch_entropy_is_the_entropy_of_the_mean():
    p = [softmax(row) for row in ROWS]
    mean = [sum(column) / len(p) for column in zip(*p, strict=True)]
    value = negative_batch_entropy(torch.tensor(ROWS, dtype=torch.float64)).item()
    assert value == pytest.approx(-entropy(mean), rel=1e-12)


def test_by_hand():
    uniform = torch.zeros(5, 4, dtype=torch.float64)
    assert mean_entropy(uniform).item() == pytest.approx(math.log(4))
    assert negative_batch_entropy(uniform).item() == pytest.approx(-math.log(4))
    # Two sure and opposite predictions: no entropy each, log 2 for their mean.
    sure = torch.tensor([[1000.0, 0.0], [0.0, 1000.0]], dtype=torch.float64, requires_grad=True)
    assert mean_entropy(sure).item() == 0
    assert negative_batch_entropy(sure).item() == pytest.approx(-math.log(2))
    (mean_entropy(sure) + negative_batch_entropy(sure)).backward()
    assert torch.isfinite(sure.grad).all()


def test_a_class_that_underflows_to_zero_has_a_finite_gradient():
    logits = torch.tensor([[500.0, 0.0, -500.0], [400.0, 0.0, -500.0]], requires_grad=True)
    assert logits.softmax(1)[:, 1:].sum() == 0
    (
        mean_entropy(logits) + negative_batch_entropy(logits) + negative_batch_entropy(logits, logits.softmax(1).mean(0))
    ).backward()
    assert torch.isfinite(logits.grad).all()


def test_gradients_agree_with_finite_differences():
    logits = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(mean_entropy, logits)
    assert torch.autograd.gradcheck(negative_batch_entropy, logits)


@pytest.mark.parametrize("parts", [2, 3, 6])
def test_accumulated_parts_have_the_whole_batch_s_value_and_gradient(parts):
    logits = torch.randn(12, 5, dtype=torch.float64) * 3
    whole = logits.clone().requires_grad_()
    value = negative_batch_entropy(whole)
    value.backward()
    cut = logits.clone().requires_grad_()
    mean = logits.softmax(1).mean(0)
    total = sum(negative_batch_entropy(part, mean) / parts for part in cut.chunk(parts))
    total.backward()
    assert total.item() == pytest.approx(value.item(), rel=1e-12)
    torch.testing.assert_close(cut.grad, whole.grad, rtol=1e-12, atol=1e-15)
    # The mean of the parts' own entropies is something else: this is why the whole batch's mean is handed over.
    naive = logits.clone().requires_grad_()
    sum(negative_batch_entropy(part) / parts for part in naive.chunk(parts)).backward()
    assert not torch.allclose(naive.grad, whole.grad, rtol=1e-3)
