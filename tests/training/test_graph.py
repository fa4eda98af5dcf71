"""A step as one graph, on a processor: the same bits as operation by operation.

:class:`Recording` stands in for CUDA graphs: a replay knows nothing of Python, so that what a step would keep as it was, a
number of the epoch, a tensor that was put in the place of another, shows as other weights.
"""

import pytest
import torch

from fewlabels.benchmark.synthetic import synthetic_data, synthetic_trainer
from fewlabels.config.validate import check
from fewlabels.methods.fixmatch import FixMatch
from fewlabels.system.stopping import Stopped
from fewlabels.training import build, graph
from fewlabels.types import UserError
from tests.training.recording import Recording
from tests.training.test_resume import METHODS as VARIANTS
from tests.training.test_resume import overrides

QUICK = ("hardware.precision=fp32", "hardware.threads=1", "evaluate_test=false", "epochs=2", "scale.max_steps=3")


@pytest.fixture
def trained(configure, tmp_path, monkeypatch):
    """Trains made-up images with ``recorder``, or without a graph where it is None; gives the trainer.

    With ``stop_after`` updates it ends there, and another trainer goes on from its checkpoint.
    """

    def train(name, recorder, *more, stop_after=None):
        monkeypatch.setattr(build, "recorder", lambda *_: recorder)
        cfg = configure(*overrides(name), *QUICK, *more)
        return finished(cfg, tmp_path / str(len(list(tmp_path.iterdir()))), stop_after)

    return train


def finished(cfg, folder, stop_after=None):
    """The trainer of made-up images at its end; with ``stop_after`` updates it goes on from the checkpoint of another."""
    data = synthetic_data(cfg, 8, 400, 20, classes=10)
    trainer = synthetic_trainer(cfg, data, folder)

    def stop():
        if trainer.step == stop_after:
            raise Stopped("enough", 0)

    if stop_after is not None:
        trainer.check = stop
        with pytest.raises(Stopped):
            trainer.run([])
        trainer = synthetic_trainer(cfg, data, folder)
        assert trainer.step == stop_after
    trainer.run([])
    return trainer


def bits(trainer):
    """All that training leaves."""
    modules = {"network": trainer.model, "method": trainer.method, "average": trainer.context.teacher}
    modules |= trainer.context.averaged
    state = {f"{name}.{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}
    for phase, optimiser in trainer.optimisers.items():
        for number, values in optimiser.state_dict()["state"].items():
            state |= {f"{phase} {number} {key}": value for key, value in values.items()}
    return {key: value for key, value in state.items() if isinstance(value, torch.Tensor)}


def different(one, other):
    one, other = bits(one), bits(other)
    assert one.keys() == other.keys()
    return [key for key, value in one.items() if not torch.equal(value, other[key])]


@pytest.mark.parametrize("name", [name for name in VARIANTS if not name.endswith("compiled")])
def test_every_method_trains_to_the_same_bits(name, trained):
    plain, recording = trained(name, None), Recording()
    graphed = trained(name, recording)
    assert recording.replayed >= recording.recorded > 0
    assert graphed.steps.recorder is recording  # it did not give up
    assert not different(plain, graphed)
    assert plain.curve == graphed.curve


@pytest.mark.parametrize("name", ["fixmatch", "flexmatch", "inversion_dropout", "improved_gan", "kmeans_fixmatch"])
def test_a_run_that_stops_in_the_middle_of_an_epoch_goes_on_with_the_same_bits(name, trained):
    """The step that is recorded is another one then, and recording it draws and moves nothing."""
    assert not different(trained(name, None), trained(name, Recording(), stop_after=4))


class Prepares(FixMatch):
    """Looks up a number of each unlabelled image, beside the graph."""

    def build(self, sizes):
        self.numbers = torch.arange(sizes.training_images) / sizes.training_images

    def prepare_batch(self, ctx, batch):
        looked_up = torch.tensor([self.numbers[int(index)] for index in batch.unlabelled_index])
        batch.unlabelled["own"] = looked_up.view(-1, 1, 1, 1)
        return batch

    def step(self, ctx, batch):
        batch.unlabelled["strong"] = batch.unlabelled["strong"] * (1 + batch.unlabelled["own"])
        return super().step(ctx, batch)


def own(method):
    return f"method._target_={method.__module__}.{method.__name__}"


def test_what_a_method_prepares_reaches_the_graph(trained):
    recording = Recording()
    graphed = trained("fixmatch", recording, own(Prepares))
    assert graphed.steps.recorder is recording
    assert not different(trained("fixmatch", None, own(Prepares)), graphed)
    assert different(trained("fixmatch", None), graphed)


class Stale(FixMatch):
    """Reads a number that a graph keeps as it was."""

    def step(self, ctx, batch):
        output = super().step(ctx, batch)
        output.loss = output.loss * (1 + ctx.epoch)
        return output


def test_the_stand_in_shows_what_a_graph_would_keep(trained):
    assert different(trained("fixmatch", None, own(Stale)), trained("fixmatch", Recording(), own(Stale)))


class Counting(FixMatch):
    def build(self, sizes):
        self.register_buffer("count", torch.zeros(()))


class ReplacesInItsStep(Counting):
    def step(self, ctx, batch):
        self.count = self.count + 1
        return super().step(ctx, batch)


class ReplacesAfterwards(Counting):
    def after_update(self, ctx, batch, kept):
        self.count = self.count + 1


class Looks(FixMatch):
    def step(self, ctx, batch):
        output = super().step(ctx, batch)
        assert output.loss.item() >= 0
        return output


GIVE_UP = {
    ReplacesInItsStep: r"it puts a new tensor in the place of ReplacesInItsStep.count; copy_\(\) writes into the old one",
    ReplacesAfterwards: r"ReplacesAfterwards.count is a new tensor; copy_\(\) writes into the old one",
    Looks: "aten._local_scalar_dense.default waits for the device",
}


@pytest.mark.parametrize(("method", "reason"), GIVE_UP.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_step_that_cannot_be_a_graph_is_trained_without_in_one_line(method, reason, trained, caplog):
    graphed = trained("fixmatch", Recording(), own(method))
    said = [record.getMessage() for record in caplog.records if "CUDA graph" in record.getMessage()]
    assert len(said) == 1
    with pytest.raises(UserError, match=f"hardware.graph=true: .*{reason}"):
        trained("fixmatch", Recording(), own(method), "hardware.graph=true")
    assert graphed.steps.recorder is None
    assert not different(trained("fixmatch", None, own(method)), graphed)


def test_batches_of_too_many_shapes_are_trained_without(trained, monkeypatch):
    """Those of the first shapes keep their graphs."""
    monkeypatch.setattr(graph, "MOST_GRAPHS", 2)
    order, recording = ("batch.order=joined", "batch.labelled_share=null", "method.threshold=0.1"), Recording()
    graphed = trained("fixmatch", recording, *order)
    assert (recording.recorded, graphed.steps.recorder) == (2, recording)
    assert not different(trained("fixmatch", None, *order), graphed)


def test_a_replay_that_gives_other_numbers_is_not_used(trained, monkeypatch, caplog):
    phase = graph._Phase

    def doubled(replay, outputs, gradients):
        def wrong():
            replay()
            gradients[0].mul_(2)

        return phase(wrong, outputs, gradients)

    monkeypatch.setattr(graph, "_Phase", doubled)
    graphed = trained("fixmatch", Recording())
    assert "its replay gives other numbers than the step itself" in caplog.text
    assert not different(trained("fixmatch", None), graphed)


def test_too_little_memory_for_a_graph_is_no_end(trained, monkeypatch, caplog):
    def warm_up(self, function):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Recording, "warm_up", warm_up)
    graphed = trained("fixmatch", Recording())
    assert "there is not enough memory for it" in caplog.text
    assert not different(trained("fixmatch", None), graphed)


def test_a_graph_asked_for_where_there_is_none_is_refused(configure, tmp_path):
    def build_one(*more):
        cfg = configure("method=supervised", "hardware.device=cpu", *more)
        return synthetic_trainer(cfg, synthetic_data(cfg, 8, 400, 20, classes=10), tmp_path / str(more))

    for word in ("auto", "false", "False"):
        assert not isinstance(build_one(f"hardware.graph={word}").steps, graph.GraphedStep)
    with pytest.raises(UserError, match="hardware.graph=true needs a GPU: use hardware.graph=auto"):
        build_one("hardware.graph=true")
    check(configure("hardware.graph=true"))
    with pytest.raises(UserError, match="hardware.graph=maybe must be one of auto, true, false"):
        check(configure("hardware.graph=maybe"))


def test_a_method_may_say_that_it_cannot_be_recorded():
    class Never(FixMatch):
        recordable = False

    gpu = torch.device("cuda")
    assert graph.recorder("auto", gpu, Never()) is None
    with pytest.raises(UserError, match="method Never cannot be recorded as a graph: use hardware.graph=auto"):
        graph.recorder("true", gpu, Never())


@pytest.mark.parametrize(
    ("asked", "processes", "device", "recordable", "setting", "said"),
    [
        ("auto", 1, "cuda", True, "auto", False),
        ("TRUE", 1, "cuda", True, "true", False),
        ("auto", 2, "cuda", True, "false", True),
        ("auto", 2, "cuda", False, "false", False),  # it would have none with one process either
        ("auto", 2, "cpu", True, "false", False),
        ("False", 2, "cuda", True, "false", False),
    ],
)
def test_several_processes_record_no_graph_and_say_so_on_gpus(asked, processes, device, recordable, setting, said):
    found, remark = build.graph_setting(asked, processes, device, recordable)
    assert (found, bool(remark)) == (setting, said)
