"""The plan of an epoch: no stream is empty unless somebody asked for it, and then it is said."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fewlabels.benchmark.synthetic import synthetic_data, synthetic_trainer
from fewlabels.data.augment.geometry import reflected
from fewlabels.data.augment.views import Views
from fewlabels.data.sampler import plan_epoch
from fewlabels.data.splits import make_split
from fewlabels.launch.system_errors import explain_torch_errors
from fewlabels.models.wide_resnet import WideResNet
from fewlabels.types import UserError

LABELS = np.arange(100) % 10
FEW = "dataset.num_labels=20"


@pytest.fixture
def loop(configure, tmp_path):
    def make(*overrides, side=8):
        cfg = configure("dataset=digits", "epochs=1", *overrides)
        return synthetic_trainer(
            cfg, synthetic_data(cfg, side, 40, 20, 10), tmp_path / "out", logging.getLogger("fewlabels").warning
        )

    return make


def test_a_validation_split_that_takes_every_label_is_refused():
    with pytest.raises(UserError, match="dataset.num_validation=20 takes all 20 labelled images"):
        make_split(LABELS, 10, num_labels=20, num_validation=20)
    assert len(make_split(LABELS, 10, num_labels=20, num_validation=10).labelled) == 10
    assert len(make_split(LABELS, 10, num_labels=0).labelled) == 0  # as asked


@pytest.mark.parametrize(("folds", "labels"), [(2, 20), (3, 30)])
def test_no_fold_takes_every_label(folds, labels):
    for fold in range(folds):
        split = make_split(LABELS, 10, num_labels=labels, folds=folds, fold=fold)
        assert set(LABELS[split.labelled]) == set(LABELS[split.validation]) == set(range(10))


@pytest.mark.parametrize("epoch_of", ["labelled", "unlabelled", "all"])
@pytest.mark.parametrize(
    ("share", "size", "parts", "message"),
    [
        (0.999, 64, 1, "batch.labelled_share=0.999 leaves no unlabelled image in a batch of 64"),
        (0.9, 8, 4, "batch.labelled_share=0.9 leaves no unlabelled image in a batch of 8"),
        (0.001, 64, 1, "batch.labelled_share=0.001 leaves no labelled image in a batch of 64"),
        (None, 1, 1, "batch.size=1 cannot hold a labelled and an unlabelled image"),
        (0.5, 1, 1, "batch.size=1 cannot hold a labelled and an unlabelled image"),
    ],
)
def test_rounding_leaves_no_stream_empty(share, size, parts, message, epoch_of):
    with pytest.raises(UserError, match=message):
        plan_epoch(40, 480, size=size, labelled_share=share, epoch_of=epoch_of, parts=parts)


def test_what_is_asked_for_is_planned():
    whole = plan_epoch(40, 480, size=64, labelled_share=1.0, epoch_of="all")
    none = plan_epoch(40, 480, size=64, labelled_share=0.0, epoch_of="all")
    assert (whole.labelled, whole.unlabelled, none.labelled, none.unlabelled) == (64, 0, 0, 64)
    assert plan_epoch(0, 480, size=1, labelled_share=0.25, epoch_of="all").unlabelled == 1


@pytest.mark.parametrize("method", ["fixmatch", "entropy", "vat", "kmeans_fixmatch", "pseudo_label", "inversion"])
def test_a_method_without_its_unlabelled_images_is_refused(method, loop):
    with pytest.raises(UserError, match=r"learns from unlabelled images, and every training image is labelled"):
        loop(f"method={method}", "dataset.num_labels=40", "dataset.labelled_in_unlabelled=false")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["dataset.num_unlabelled=0"], "dataset.num_unlabelled=0: FixMatch trains without unlabelled images"),
        (["dataset.num_labels=0"], "dataset.num_labels=0: FixMatch trains without labelled images"),
        (["batch.labelled_share=1"], "batch.labelled_share=1: FixMatch trains without unlabelled images"),
        (["batch.labelled_share=0"], "batch.labelled_share=0: FixMatch trains without labelled images"),
        ([], ""),
    ],
)
def test_a_stream_that_was_set_to_nothing_is_said(overrides, said, loop, capsys):
    loop("method=fixmatch", "dataset.num_labels=20", "batch.size=16", *overrides)
    assert said in capsys.readouterr().err


def test_supervised_training_needs_no_unlabelled_images(loop, capsys):
    loop("method=supervised", "dataset.num_labels=40", "dataset.num_unlabelled=0")
    assert capsys.readouterr().err == ""


def test_supervised_training_without_labels_is_refused(loop):
    with pytest.raises(UserError, match="there is nothing to train on"):
        loop("method=supervised", "dataset.num_labels=0")


IN_TURN = ("method=kmeans_fixmatch", "method.variant=as_published", "model=timm", "model.timm_name=resnet18")


def test_a_last_batch_of_one_image_is_refused_where_batch_norm_cannot_take_it(loop):
    with pytest.raises(UserError, match=r"resnet18 normalises .* its smallest one holds a single image: change batch.size"):
        loop(*IN_TURN, "dataset.num_labels=20", "batch.size=19")
    loop(*IN_TURN, "dataset.num_labels=20", "batch.size=18")


def test_a_batch_of_one_image_is_trained_on_where_batch_norm_has_a_map(loop):
    one = loop("method=supervised", "model=wide_resnet_28_2", "model.depth=10", "model.width=1", "batch.size=1", FEW)
    assert isinstance(one.model, WideResNet)
    one.begin_epoch()
    one.train_batch(0, one.loader.plan.steps)


def test_a_part_of_one_image_is_one_line(loop):
    """VAT passes its labelled images alone, which no plan can know."""
    one = loop("method=vat", "method.warmup_epochs=0", "model=timm", "model.timm_name=resnet18", "batch.labelled_share=0.1",
               "batch.size=10", "dataset.num_labels=10")  # fmt: skip
    one.begin_epoch()
    cfg = SimpleNamespace(batch=SimpleNamespace(size=10))
    with pytest.raises(UserError, match=r"batch norm cannot normalise a single image whose map .*batch.size=10, batch.lab"):
        explain_torch_errors(lambda _: one.train_batch(0, one.loader.plan.steps))(cfg)


@pytest.mark.parametrize("size", [1, 2, 3, 8])
@pytest.mark.parametrize("padding", [0, 1, 4, 17])
def test_padding_of_any_width_is_numpy_s_mirror(size, padding):
    expected = np.pad(np.arange(size), padding, mode="reflect" if size > 1 else "edge")
    assert reflected(torch.arange(-padding, size + padding), size).tolist() == expected.tolist()


def test_wide_padding_shows_no_black():
    views = Views(mean=(0.0,), std=(1.0,), padding=20)
    images = torch.full((50, 8, 8, 1), 255, dtype=torch.uint8)
    assert (views.make("weak", images, torch.Generator().manual_seed(0)) == 1).all()


def test_black_padding_that_hides_the_image_is_refused(loop):
    with pytest.raises(UserError, match=r"views.padding=8 reaches past whole views of 8 pixels.*at most 7"):
        loop("method=supervised", "views.padding=8", "views.reflect=false", FEW)
    loop("method=supervised", "views.padding=7", "views.reflect=false", FEW)


@pytest.mark.parametrize("changes", [{"strong": "randaugment", "reflect": False}, {"strong": "jitter", "reflect": True}])
def test_settings_that_the_notebook_s_views_ignore_are_refused(changes):
    with pytest.raises(UserError, match="views.notebook=true"):
        Views(mean=(0.5,), std=(0.5,), notebook=True, **changes)


@pytest.mark.parametrize(
    ("names", "message"),
    [(("strong", "strong"), "as a mapping from names to kinds"), ({"weak": "weak", "own": "loud"}, "no kind 'loud'")],
)
def test_a_method_that_asks_for_what_it_would_not_get_is_refused(names, message, loop, monkeypatch):
    monkeypatch.setattr("fewlabels.methods.fixmatch.FixMatch.unlabelled_views", names)
    with pytest.raises(UserError, match=message):
        loop("method=fixmatch", "dataset.num_labels=20", "batch.size=16")


def test_an_average_that_cannot_forget_its_start_is_said(loop, capsys):
    loop("method=supervised", "optim=fixmatch", "batch.steps=3", FEW)
    assert "optim.ema_decay=0.999: the average of the weights" in capsys.readouterr().err
    loop("method=supervised", "optim=fixmatch", "batch.steps=3", "optim.ema_warmup=true", FEW)
    assert capsys.readouterr().err == ""
