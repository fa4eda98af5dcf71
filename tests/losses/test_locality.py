"""Class activation maps and J_L against loops over pixels and groups, in float64."""

import math

import pytest
import torch

from fewlabels.losses import class_activation_maps, locality, map_area, probability_weighted_maps


def locality_by_groups(matrix):
    """Eq. 5 to 7 as written: four sets of N nested half-spaces, an L2 norm each."""
    n = len(matrix)
    total = 0.0
    for k in range(1, n + 1):
        groups = [
            [(r, c) for r in range(n) for c in range(k)],
            [(r, c) for r in range(n) for c in range(n - k, n)],
            [(r, c) for r in range(k) for c in range(n)],
            [(r, c) for r in range(n - k, n) for c in range(n)],
        ]
        total += sum(math.sqrt(sum(matrix[r][c] ** 2 for r, c in group)) for group in groups)
    return total


@pytest.mark.parametrize("n", [1, 2, 5])
def test_locality_is_the_sum_over_all_groups(n):
    maps = torch.randn(3, n, n, dtype=torch.float64)
    expected = [locality_by_groups(m.tolist()) for m in maps]
    torch.testing.assert_close(locality(maps), torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=0)


def test_by_hand():
    # One pixel of 3 in the top left of a 2 x 2 map: left-right 3 + 3, right-left 0 + 3, and the same downwards.
    maps = torch.tensor([[[3.0, 0.0], [0.0, 0.0]]])
    assert locality(maps).item() == 18


def test_a_small_spot_costs_less_than_the_same_energy_spread_out():
    spot = torch.zeros(1, 4, 4)
    spot[0, 1, 1] = 2.0
    assert locality(spot) < locality(torch.full((1, 4, 4), 0.5))


def test_an_all_zero_map_has_a_finite_gradient():
    maps = torch.zeros(1, 3, 3, requires_grad=True)
    locality(maps).sum().backward()
    assert torch.equal(maps.grad, torch.zeros_like(maps))


def test_gradient_agrees_with_finite_differences():
    assert torch.autograd.gradcheck(locality, torch.randn(2, 4, 4, dtype=torch.float64, requires_grad=True))


def test_class_activation_maps_contract_features_with_the_class_s_row():
    features = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    weight = torch.randn(6, 3, dtype=torch.float64)
    classes = torch.tensor([4, 1])
    expected = torch.zeros(2, 4, 5, dtype=torch.float64)
    for b in range(2):
        for k in range(3):
            expected[b] += weight[classes[b], k] * features[b, k]
    torch.testing.assert_close(class_activation_maps(features, weight, classes), expected)


def test_probability_weighted_maps_sum_every_class_s_map():
    features = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    weight = torch.randn(6, 3, dtype=torch.float64)
    p = torch.randn(2, 6, dtype=torch.float64).softmax(1)
    expected = sum(p[:, c, None, None] * class_activation_maps(features, weight, torch.tensor([c, c])) for c in range(6))
    torch.testing.assert_close(probability_weighted_maps(features, weight, p), expected)


def area_by_boxes(matrix, share):
    """Every box of the map, one at a time."""
    height, width = len(matrix), len(matrix[0])
    total = sum(v * v for row in matrix for v in row)
    best = 1.0
    for top, left in [(t, c) for t in range(height) for c in range(width)]:
        for bottom, right in [(b, c) for b in range(top, height) for c in range(left, width)]:
            held = sum(matrix[r][c] ** 2 for r in range(top, bottom + 1) for c in range(left, right + 1))
            if total and held >= share * total:
                best = min(best, (bottom + 1 - top) * (right + 1 - left) / (height * width))
    return best


@pytest.mark.parametrize("shape", [(1, 1), (4, 4), (3, 5)])
def test_the_area_of_a_map_is_that_of_the_smallest_box(shape):
    maps = torch.randn(4, *shape, dtype=torch.float64) ** 5
    expected = [area_by_boxes(m.tolist(), 0.9) for m in maps]
    torch.testing.assert_close(map_area(maps), torch.tensor(expected, dtype=torch.float64))


def test_the_area_of_a_spot_of_a_line_and_of_nothing():
    maps = torch.zeros(3, 4, 4)
    maps[0, 1, 2] = -7
    maps[1, :, 3] = 1
    assert map_area(maps).tolist() == [1 / 16, 1 / 4, 1]
    large = torch.zeros(1, 64, 64)
    large[0, :8, :4] = 1
    assert map_area(large).item() == pytest.approx(2 / 256)
