"""A training step never asks the device for a number: on a GPU, whoever asks waits for all that is queued.

The device here is "meta", whose tensors have shapes and no values: whatever would wait for a value fails, and whatever
works follows from shapes and from what the host drew.
"""

import pytest
import torch

from fewlabels.benchmark.synthetic import synthetic_data
from fewlabels.data.augment.views import KINDS, Draws, Views
from fewlabels.data.loader import Batching, Images, Loader
from fewlabels.system.device import pinned
from fewlabels.training.build import draw_split
from fewlabels.training.meters import Meters
from tests.methods.helpers import METHODS, VARIANTS, setting

META = torch.device("meta")


@pytest.fixture
def meta_loader():
    """Builds the loader of a configuration on the meta device, which draws nothing: there a method draws on the host."""

    def build_loader(cfg, method, **views):
        data = synthetic_data(cfg, 16, 64, 4, classes=4)
        mean, std = tuple(cfg.dataset.mean), tuple(cfg.dataset.std)
        cfg.dataset.num_labels, cfg.dataset.num_unlabelled = 16, None
        images = Images(data.train, Views(mean, std, **views), META)
        batching = Batching(32, 0.25, "unlabelled", "together")
        return Loader(images, draw_split(cfg, data), batching, method.labelled_views, method.unlabelled_views, 0)

    return build_loader


VIEWS = {
    "randaugment": {},
    "fixmatch": {"strong": "fixmatch"},
    "fixmatch_pytorch": {"strong": "fixmatch_pytorch"},
    "jitter": {"strong": "jitter"},
    "notebook": {"strong": "jitter", "reflect": False, "notebook": True},
    "cropped": {"crop": 12, "reflect": False},
    "scaled": {"size": 20, "per_image": True},
}


@pytest.mark.parametrize("views", VIEWS.values(), ids=VIEWS)
def test_views_are_made_without_a_look_at_the_device(configure, meta_loader, views):
    class Method:
        labelled_views = {"flip": "flip"}
        unlabelled_views = {name: name for name in KINDS}

    loader = meta_loader(configure("dataset=cifar10_250"), Method, **views)
    batch = loader.batch(0, 1)
    assert batch.labels.device == META
    assert all(view.device == META and view.ndim == 4 for view in (*batch.labelled.values(), *batch.unlabelled.values()))
    assert len(batch.unlabelled["strong"]) == batch.num_unlabelled > 0


@pytest.mark.parametrize("name", [*METHODS, *VARIANTS])
def test_losses_and_meters_are_worked_out_without_a_look_at_the_device(name, configure, meta_loader):
    it = setting(name, configure)  # its look at the whole set, once an epoch, may wait
    batch, meters = meta_loader(configure("dataset=cifar10_250"), it.method).batch(0, 1), Meters()
    ctx, names = it.ctx(), {"loss"}
    for module in (it.network, it.method, ctx.teacher, *ctx.averaged.values()):
        module.to(META)
    ctx.progress = ctx.progress.to(META)
    for phase in it.method.phases * 2:
        ctx.phase = phase
        output = it.method.step(ctx, it.method.prepare_batch(ctx, batch))
        output.loss.backward()
        meters.add(output)
        names |= set(output.terms)
        it.method.after_update(ctx, batch, {key: value.detach() for key, value in output.kept.items()})
    assert all(p.grad is not None and p.grad.device == META for p in it.network.parameters())
    assert set(meters.sums) == names
    with pytest.raises(RuntimeError, match="meta"):
        meters.read()  # here the host waits


def test_what_is_pinned_can_be(monkeypatch):
    """One draw that a whole batch shares is one number in memory."""

    def pin_memory(values):
        return torch.empty_strided(values.shape, values.stride(), dtype=values.dtype).copy_(values)

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin_memory)
    shared = Draws(5, torch.Generator().manual_seed(0), shared=True)
    for values in (shared.integers(-4, 4), shared.uniform(0, 1), shared.chance(0.5), shared.orders(4)):
        assert torch.equal(pinned(values), values)
