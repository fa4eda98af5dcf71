"""What only a GPU can show; left out where there is none. (The other tests run on it as well, where there is one.)"""

import pytest
import torch

from fewlabels.benchmark.synthetic import synthetic_data, synthetic_trainer
from fewlabels.data.augment.views import Views
from fewlabels.models.batch_norm import trains_on_one_image
from fewlabels.models.timm_model import TimmModel
from fewlabels.runs import checkpoint
from fewlabels.types import Batch
from tests.conftest import random_images, skip_without_compiler
from tests.methods.helpers import METHODS, setting
from tests.training.test_no_wait import VIEWS
from tests.training.test_resume import METHODS as VARIANTS
from tests.training.test_resume import overrides

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
GPU = torch.device("cuda")


@pytest.fixture
def forbid_waiting():
    """Call it, and from then on whoever waits for the GPU fails."""
    yield lambda: torch.cuda.set_sync_debug_mode("error")
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("options", VIEWS.values(), ids=VIEWS)
def test_views_are_those_of_the_processor(options):
    pixels = torch.from_numpy(random_images(200, 4, size=32).images)
    views = Views((0.5,) * 3, (0.25,) * 3, **options)
    names = {name: name for name in ("plain", "flip", "weak", "strong")}
    here = views.make_all(names, pixels, torch.Generator().manual_seed(0))
    there = views.make_all(names, pixels.to(GPU), torch.Generator().manual_seed(0))
    for name in names:
        # A sum in another order may be cut off to the grey level beside.
        differ = (there[name].cpu() - here[name]).abs() > 1e-3
        assert differ.float().mean() < 1e-3, name


def moved(batch):
    views = [{name: view.to(GPU) for name, view in each.items()} for each in (batch.labelled, batch.unlabelled)]
    return Batch(views[0], batch.labels.to(GPU), views[1], batch.labelled_index.to(GPU), batch.unlabelled_index.to(GPU))


@pytest.mark.parametrize("name", METHODS)
def test_losses_are_those_of_the_processor(name, configure, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    here, there = setting(name, configure), setting(name, configure)
    expected = here.method.step(here.ctx(), here.batch)
    ctx = there.ctx(generator=torch.Generator(GPU))
    for module in (there.network, there.method, ctx.teacher, *ctx.averaged.values()):
        module.to(GPU)
    ctx.progress = ctx.progress.to(GPU)
    found = there.method.step(ctx, moved(there.batch))
    assert found.terms.keys() == expected.terms.keys()
    for term, value in expected.terms.items():
        if term not in ("virtual_adversarial", "adversarial", "taken_for_real"):  # of what is drawn on the device
            torch.testing.assert_close(found.terms[term].cpu(), value, rtol=1e-3, atol=1e-4, msg=term)


def test_a_checkpoint_of_a_gpu_loads_where_there_is_none(tmp_path):
    state = {
        "model": {"weight": torch.ones(3, 2, device=GPU).t()},
        "optimisers": [torch.nn.Parameter(torch.ones(1, device=GPU))],
    }
    checkpoint.save(tmp_path / "c.pt", state, "me")
    back = torch.load(tmp_path / "c.pt", weights_only=True)
    assert {back["model"]["weight"].device.type, back["optimisers"][0].device.type} == {"cpu"}
    assert back["model"]["weight"].stride() == (1, 2)


def test_looks_at_a_network_leave_no_trace_in_what_dropout_draws_from():
    torch.cuda.manual_seed(3)
    before = torch.cuda.get_rng_state()
    TimmModel(10, (32, 32), 3, timm_name="resnet18", options={"drop_rate": 0.5})
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.Dropout(0.5)).to(GPU)
    assert trains_on_one_image(network, (3, 8, 8))
    assert torch.equal(torch.cuda.get_rng_state(), before)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", VARIANTS)
def test_a_step_of_training_never_waits(name, precision, configure, tmp_path, forbid_waiting):
    skip_without_compiler(overrides(name))
    cfg = configure(*overrides(name), f"hardware.precision={precision}", "hardware.device=cuda:0")
    if "warmup_epochs" in cfg.method:
        cfg.method.warmup_epochs = 0
    loop = synthetic_trainer(cfg, synthetic_data(cfg, 8, 400, 20, classes=10), tmp_path)
    plan = loop.begin_epoch()
    loop.train_batch(0, plan.steps)  # which may allocate, compile and choose
    assert plan.unlabelled or not loop.method.unlabelled_views
    forbid_waiting()
    loop.train_batch(min(1, plan.steps - 1), plan.steps)
