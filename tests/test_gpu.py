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
from tests.training.test_graph import Looks, different, finished
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


@pytest.fixture
def trained(configure, tmp_path):
    """Trains made-up images for 54 steps; gives the trainer."""

    def train(name, graph, *more, stop_after=None):
        cfg = configure(
            *overrides(name), "hardware.device=cuda:0", f"hardware.graph={graph}", "evaluate_test=false", "epochs=9", *more
        )
        trainer = finished(cfg, tmp_path / str(len(list(tmp_path.iterdir()))), stop_after)
        if graph == "true":
            assert trainer.steps.recorder is not None
        return trainer

    return train


@pytest.mark.parametrize("name", [name for name in VARIANTS if not name.endswith("compiled")])
def test_a_graph_trains_to_the_bits_of_operation_by_operation(name, trained):
    """In deterministic mode, which is the default; with batches of two and of many shapes among them."""
    plain, graphed = trained(name, "false"), trained(name, "true")
    assert not different(plain, graphed)


@pytest.mark.parametrize("name", [name for name in VARIANTS if name.endswith("compiled")])
def test_a_compiled_step_is_recorded(name, trained):
    skip_without_compiler(overrides(name))
    trained(name, "true")


@pytest.mark.parametrize("name", ["fixmatch", "vat", "inversion_dropout", "improved_gan", "kmeans_fixmatch"])
def test_a_graph_that_is_recorded_in_the_middle_of_a_run_goes_on_with_the_same_bits(name, trained):
    assert not different(trained(name, "true"), trained(name, "true", stop_after=20))


def test_a_step_that_looks_at_a_value_is_trained_without_a_graph(trained, caplog):
    """Dropout too draws as ever after a recording that failed."""
    look, dropout = f"method._target_={Looks.__module__}.Looks", ("model=mnist_inversion_resnet", "model.k=2", "model.n=1")
    graphed = trained("fixmatch", "auto", look, *dropout)
    assert "cannot be one CUDA graph" in caplog.text
    assert graphed.steps.recorder is None
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    assert not different(trained("fixmatch", "false", look, *dropout), graphed)


def test_without_deterministic_algorithms_a_graph_is_close(trained):
    one, other = (trained("fixmatch", graph, "hardware.deterministic=false") for graph in ("false", "true"))
    for key, value in one.model.state_dict().items():
        torch.testing.assert_close(other.model.state_dict()[key], value, rtol=5e-2, atol=5e-3, msg=key)
