"""VAT against a model whose worst direction is known, and against finite differences."""

import math

import pytest
import torch

from fewlabels.losses import adversarial_logits, mean_divergence, virtual_adversarial_direction


def linear(weight):
    return lambda x: x.flatten(1) @ weight.T


def virtual_adversarial(*arguments):
    """As the method puts it together."""
    return mean_divergence(*adversarial_logits(*arguments))


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def test_for_two_classes_the_direction_is_the_difference_of_their_weights():
    """A linear model of two classes changes its prediction along w_1 - w_0 alone."""
    torch.manual_seed(0)
    weight = torch.randn(2, 12, dtype=torch.float64)
    x = torch.randn(5, 3, 2, 2, dtype=torch.float64)
    direction = virtual_adversarial_direction(linear(weight), x, 1e-6, 1, torch.Generator().manual_seed(1))
    expected = weight[1] - weight[0]
    cosine = (direction.flatten(1) @ expected) / expected.norm()
    torch.testing.assert_close(cosine.abs(), torch.ones(5, dtype=torch.float64), rtol=1e-6, atol=0)
    torch.testing.assert_close(direction.flatten(1).norm(dim=1), torch.ones(5, dtype=torch.float64))


def test_more_iterations_come_nearer_to_the_top_eigenvector_of_the_hessian():
    torch.manual_seed(1)
    weight = torch.randn(4, 6, dtype=torch.float64)
    x = torch.randn(1, 6, dtype=torch.float64)
    p = (x @ weight.T).softmax(1)[0]
    hessian = weight.T @ (p.diag() - p[:, None] * p[None]) @ weight  # of KL at r = 0, by hand for a linear model
    top = torch.linalg.eigh(hessian).eigenvectors[:, -1]
    cosines = []
    for iterations in (0, 1, 30):
        d = virtual_adversarial_direction(linear(weight), x, 1e-4, iterations, torch.Generator().manual_seed(2))
        cosines.append((d[0] @ top).abs().item())
    assert cosines[0] < cosines[1] < cosines[2]
    assert cosines[2] == pytest.approx(1, abs=1e-4)


def test_the_loss_is_the_divergence_at_distance_eps():
    weight = torch.tensor([[1.0, 0.0], [0.0, 0.0]], dtype=torch.float64)  # only the first coordinate matters
    x = torch.tensor([[0.0, 3.0]], dtype=torch.float64)
    for sign_seed in range(4):
        generator = torch.Generator().manual_seed(sign_seed)
        value = virtual_adversarial(linear(weight), x, 1e-6, 2.0, 1, generator).item()
        moved = [1 / (1 + math.exp(-2.0)), 1 / (1 + math.exp(2.0))]
        assert value == pytest.approx(kl([0.5, 0.5], moved), rel=1e-6)  # the same on either side of an even prediction


def test_the_clean_prediction_and_the_direction_give_no_gradient():
    torch.manual_seed(2)
    weight = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    x = torch.randn(2, 4, dtype=torch.float64)
    virtual_adversarial(linear(weight), x, 1e-3, 0.5, 2, torch.Generator().manual_seed(3)).backward()
    ours, weight.grad = weight.grad, None
    with torch.no_grad():
        clean = linear(weight)(x)
        direction = virtual_adversarial_direction(linear(weight), x, 1e-3, 2, torch.Generator().manual_seed(3))
    log_p, log_q = clean.log_softmax(1), linear(weight)(x + 0.5 * direction).log_softmax(1)
    (log_p.exp() * (log_p - log_q)).sum(1).mean().backward()
    torch.testing.assert_close(ours, weight.grad)


def test_a_flat_model_has_a_finite_loss():
    value = virtual_adversarial(lambda x: x.flatten(1)[:, :3] * 0, torch.randn(2, 5), 1e-6, 1.0, 3)
    assert value.item() == 0


def test_the_generator_alone_decides():
    weight, x = torch.randn(3, 4), torch.randn(2, 4)
    one, same, other = (
        virtual_adversarial_direction(linear(weight), x, 1.0, 0, torch.Generator().manual_seed(s)) for s in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
