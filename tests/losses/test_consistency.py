"""FixMatch and the notebook's mask, against a loop over the batch."""

import math

import pytest
import torch

from fewlabels.losses import fixmatch
from fewlabels.losses.consistency import indexed_by_mask

WEAK = torch.tensor([[4.0, 0.0, 0.0], [0.5, 0.0, 0.2], [0.0, 0.0, 6.0], [0.0, 3.0, 0.1]], dtype=torch.float64)
STRONG = torch.tensor([[0.1, 0.7, -0.4], [2.0, 1.0, 0.0], [1.0, -1.0, 0.3], [0.0, 0.5, 0.6]], dtype=torch.float64)


def log_probability(row, cls):
    return row[cls] - math.log(sum(math.exp(x) for x in row))


def fixmatch_by_loop(weak, strong, threshold):
    total = 0.0
    for w, s in zip(weak.tolist(), strong.tolist(), strict=True):
        p = [math.exp(log_probability(w, c)) for c in range(len(w))]
        if max(p) >= threshold:
            total -= log_probability(s, p.index(max(p)))
    return total / len(weak)


@pytest.mark.parametrize("threshold", [0.0, 0.6, 0.95, 1.0])
def test_fixmatch_is_the_masked_mean_over_all_images(threshold):
    assert fixmatch(WEAK, STRONG, threshold).item() == pytest.approx(fixmatch_by_loop(WEAK, STRONG, threshold), rel=1e-12)


def test_some_images_pass_the_threshold_and_some_do_not():
    values = [fixmatch_by_loop(WEAK, STRONG, t) for t in (0.0, 0.6, 0.95, 1.0)]
    assert values[0] > values[1] > values[2] > values[3] == 0


def test_an_image_at_the_threshold_counts():
    weak = torch.zeros(1, 2, dtype=torch.float64)  # both classes at exactly one half
    assert fixmatch(weak, STRONG[:1, :2], 0.5).item() > 0


def test_the_weak_view_gives_no_gradient():
    weak, strong = WEAK.clone().requires_grad_(), STRONG.clone().requires_grad_()
    fixmatch(weak, strong, 0.6).backward()
    assert weak.grad is None
    assert strong.grad.abs().sum() > 0
    assert torch.equal(strong.grad[1], torch.zeros(3, dtype=torch.float64))  # below the threshold


def test_indexed_by_mask_reads_rows_0_and_1_alone():
    # Confident at 0.9: images 0 (0.965), 2 (0.995) and 3 (0.909...); not image 1.
    mask = [int(max(math.exp(log_probability(w, c)) for c in range(3)) >= 0.9) for w in WEAK.tolist()]
    assert mask == [1, 0, 1, 1]
    strong = STRONG.tolist()
    expected = -sum(log_probability(strong[m], m) for m in mask) / 4
    assert indexed_by_mask(WEAK, STRONG, 0.9).item() == pytest.approx(expected, rel=1e-12)
    assert torch.equal(indexed_by_mask(WEAK, STRONG, 0.9), indexed_by_mask(WEAK, STRONG[:2], 0.9))


def test_each_image_may_have_a_threshold_of_its_own():
    thresholds = [0.99, 0.4, 0.99, 0.95]  # top probabilities 0.96, 0.42, 0.995 and 0.91
    parts = [fixmatch_by_loop(WEAK[i : i + 1], STRONG[i : i + 1], thresholds[i]) for i in range(4)]
    assert [part > 0 for part in parts] == [False, True, True, False]
    found = fixmatch(WEAK, STRONG, torch.tensor(thresholds, dtype=torch.float64))
    assert found.item() == pytest.approx(sum(parts) / 4, rel=1e-12)


def test_the_mean_over_confident_images_alone():
    expected = fixmatch_by_loop(WEAK, STRONG, 0.9) * 4 / 3  # three of four are
    assert fixmatch(WEAK, STRONG, 0.9, "confident").item() == pytest.approx(expected, rel=1e-12)
    assert fixmatch(WEAK, STRONG, 1.0, "confident").item() == 0
