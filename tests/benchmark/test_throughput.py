"""The benchmark measures what it says, and compares like with like."""

import json
import sys

import pytest
import torch
from PIL import Image

from fewlabels.benchmark import throughput as bench
from fewlabels.benchmark.synthetic import synthetic_data, synthetic_trainer
from fewlabels.benchmark.torchvision_loader import Cutout, PerImageLoader, pipeline
from fewlabels.config.compose import composed
from fewlabels.data.augment.views import Views
from fewlabels.data.loader import Images
from fewlabels.methods.fixmatch import FixMatch

TINY = bench.Case("tiny", (*bench.FIXMATCH, "model=simple_cnn", "dataset.num_labels=40", "batch.size=16"), count=200)
# Since Python 3.12 a fork of a process with threads warns; torch's DataLoader forks.
forks = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@forks
def test_three_rates_of_one_step(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "CASES", [TINY])
    monkeypatch.setattr(bench, "ROUNDS", 2)
    monkeypatch.setattr(bench, "ROUND_SECONDS", 0.02)
    monkeypatch.setattr(bench, "MATRIX", {"cpu": 64})
    monkeypatch.setattr(sys, "argv", ["bench", "hardware.precision=fp32", "hardware.threads=1", "--to", str(tmp_path)])
    bench.main()
    (file,) = tmp_path.glob("*.json")
    (case,) = json.loads(file.read_text())["cases"]
    assert case["batch"] == "2 + 14"
    assert {name: len(rates) for name, rates in case["rounds"].items()} == {"limit": 2, "ours": 2, "per image": 2}
    assert case["ours_over_limit"] > 0
    assert case["ours_over_per_image"] > 0  # how much is no matter for a test
    assert case["predicted_per_second"]["ours"] > 0
    assert case["predicted_over_limit"] > 0
    # SimpleCNN's three matrix layers and two convolutions, by hand, forward; backward costs twice that but for the images'
    # own gradient. Of 16 images 14 are seen in two views, one of which is a target alone.
    first, second = 1024 * 27 * 32, 256 * 288 * 64
    linear = 4096 * 512 + 512 * 100 + 100 * 10
    forward = first + second + linear
    assert case["gflop_an_image"] == pytest.approx(2 * (16 * (3 * forward - first) + 14 * forward) / 16 / 1e9, rel=1e-6)
    assert "batches of 2 + 14: limit" in capsys.readouterr().out


@forks
def test_the_usual_pipeline_makes_the_same_batches(configure, tmp_path):
    cfg = configure(*TINY.overrides)
    data = synthetic_data(cfg, 32, 200, 20, 10)
    loop = synthetic_trainer(cfg, data, tmp_path)
    loop.begin_epoch()
    ours = loop.loader.batch(0, 0)
    with PerImageLoader(data.train, cfg, loop.loader) as other:
        theirs = other.batch()
    assert {name: view.shape for name, view in theirs.unlabelled.items()} == {
        name: view.shape for name, view in ours.unlabelled.items()
    }
    assert theirs.labelled["weak"].shape == ours.labelled["weak"].shape
    assert set(theirs.labelled_index.tolist()) <= set(loop.loader.labelled.indices.tolist())
    torch.testing.assert_close(theirs.labels, torch.from_numpy(data.train.labels)[theirs.labelled_index])
    assert FixMatch().step(loop.context, theirs).loss.isfinite()


def test_its_weak_view_is_one_of_ours(configure):
    cfg = configure(*TINY.overrides, "views.padding=1", "views.flip=false")
    data = synthetic_data(cfg, 32, 2, 2)
    weak = pipeline("weak", 32, cfg)(Image.fromarray(data.train.images[0]))
    views = Views(mean=tuple(cfg.dataset.mean), std=tuple(cfg.dataset.std), padding=1, flip=False)
    images = Images(data.train, views, torch.device("cpu"))
    pixels = images.gather(torch.zeros(200, dtype=torch.int64))
    ours = views.make("weak", pixels, torch.Generator().manual_seed(0))
    assert (ours - weak).abs().amax(dim=(1, 2, 3)).min() < 1e-5  # one of the nine crops


def test_cutout_greys_a_quarter_at_most():
    torch.manual_seed(0)
    image = Cutout(0.5)(torch.zeros(3, 8, 8))
    assert 0 < (image == 127 / 255).float().mean() <= 0.25


def test_views_that_are_not_fed_one_by_one_are_left_out(configure):
    case = bench.Case("tiny", ("method=inversion", "model=large_cnn"), count=100, per_image=False)
    overrides = ("dataset=cifar10_4000", "dataset.num_labels=20", "model.width=0.05", "batch.size=8", "hardware.threads=1")
    rates = bench.measure(composed("tracking=quiet", *case.overrides, *overrides), case, rounds=1, seconds=0.01)
    assert set(rates.images) == {"limit", "ours"}
    assert rates.ratio("ours", "per image") is None
