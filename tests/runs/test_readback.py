"""What a method says is plain numbers, or refused by name; what is written can be read before the last one goes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fewlabels.methods.supervised import Supervised
from fewlabels.runs import checkpoint
from fewlabels.train import run
from fewlabels.training.meters import Meters
from fewlabels.training.numbers import metrics, number, step_output
from fewlabels.training.trainer import Trainer
from fewlabels.types import StepOutput, UserError

SHORT = ["epochs=2", "batch.steps=2", "batch.size=16", "scale.max_test_images=20", "method=supervised"]


@pytest.mark.parametrize("value", [np.float64(0.25), np.float32(0.25), torch.tensor(0.25), np.array(0.25), 0.25])
def test_a_number_of_any_kind_is_plain(value, configure, monkeypatch, tmp_path):
    monkeypatch.setattr(Supervised, "epoch_metrics", lambda self: {"mine": value, "many": [value, value]})
    result = run(configure(*SHORT, "checkpoint_seconds=0"))
    (folder,) = (tmp_path / "out" / "runs").iterdir()
    state = checkpoint.read(folder / "checkpoint.pt")
    written = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for line in (*result.curve, *state["curve"], *written):
        assert (line["mine"], line["many"]) == (0.25, [0.25, 0.25])
        assert {type(line["mine"]), *map(type, line["many"])} == {float}


def test_whole_numbers_and_truth_values():
    assert [number(value) for value in (np.int64(3), torch.tensor(3), True, np.bool_(False))] == [3, 3, 1, 0]
    assert {type(number(value)) for value in (np.int64(3), torch.tensor(3), True, np.bool_(False))} == {int}
    assert np.isnan(metrics({"mine": float("nan")}, object())["mine"])
    assert metrics({"a": np.arange(2), "b": torch.ones(2)}, object()) == {"a": [0, 1], "b": [1.0, 1.0]}


class Mine:
    pass


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mine": "x"}, "method Mine: metric 'mine' is a str: must be a number"),
        ({"mine": None}, "method Mine: metric 'mine' is None: leave it out, or say nan"),
        ({"mine": 1j}, "method Mine: metric 'mine' is a complex"),
        ({"mine": {"a": 1}}, "method Mine: metric 'mine' is a dict"),
        ({"mine": [1, "x"]}, "method Mine: metric 'mine' is a list that holds int, str"),
        ({"mine": torch.ones(2, 2)}, "method Mine: metric 'mine' is a Tensor of shape [2, 2]"),
        ({3: 1.0}, "method Mine: the name of a metric is a int: must be a string"),
        ({"test_accuracy": 99.0}, "method Mine: metric 'test_accuracy' has the name of another figure"),
        ({"epoch": 3}, "method Mine: metric 'epoch' has the name of another figure"),
        ({"cross_entropy": 3}, "method Mine: metric 'cross_entropy' has the name of another figure"),
        (None, "method Mine: its metrics are None"),
    ],
)
def test_a_metric_that_is_none_is_named(values, message):
    with pytest.raises(UserError) as error:
        metrics(values, Mine(), taken=["cross_entropy"])
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def loss():
    return torch.ones(3, requires_grad=True).sum()


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (
            lambda: StepOutput(loss(), {"a": torch.ones(10)}),
            "method Mine: term 'a' is a Tensor of shape [10], torch.float32",
        ),
        (lambda: StepOutput(loss(), {"a": "x"}), "method Mine: term 'a' is a str: must be one number"),
        (lambda: StepOutput(loss(), {"a": None}), "method Mine: term 'a' is None"),
        (lambda: StepOutput(loss(), {"a": np.ones(2)}), "method Mine: term 'a' is a ndarray of shape [2]"),
        (lambda: StepOutput(loss(), {"lr": 1.0}), "method Mine: term 'lr' has the name of another figure"),
        (lambda: StepOutput(torch.ones(3, requires_grad=True)), "method Mine: the loss is a Tensor of shape [3]"),
        (lambda: StepOutput(loss().detach()), "method Mine: the loss depends on no weight"),
        (lambda: StepOutput(0.5), "method Mine: the loss is a float"),
        (loss, "method Mine: step returns a Tensor of shape []"),
    ],
)
def test_a_loss_or_term_that_is_none_is_named(output, message):
    with pytest.raises(UserError) as error:
        step_output(output(), Mine())
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    "term",
    [2.0, 2, np.float32(2), np.int64(2), torch.tensor(2), torch.tensor([2.0]), torch.ones(2, requires_grad=True).sum()],
)
def test_terms_of_any_kind_are_averaged_and_keep_no_graph(term):
    meters = Meters()
    for _ in range(3):
        meters.add(step_output(StepOutput(loss(), {"a": term}), Mine()))
    assert meters.read()["a"] == 2
    assert not meters.sums["a"].requires_grad


def test_rates_are_counted_and_half_precision_goes_on_growing():
    meters, half = Meters(), Meters()
    for i in range(4):
        meters.add(step_output(StepOutput(loss(), {"sure": torch.tensor(i != 0)}), Mine()))
    assert meters.read()["sure"] == 0.75
    for _ in range(1000):
        half.add(step_output(StepOutput(loss(), {"a": torch.tensor(1.0, dtype=torch.bfloat16)}), Mine()))
    assert half.read()["a"] == 1


def test_a_term_that_the_method_goes_on_writing_into():
    meters, term = Meters(), torch.zeros(())
    for value in (1.0, 3.0):
        term.fill_(value)
        meters.add(step_output(StepOutput(loss(), {"a": term}), Mine()))
    assert meters.read()["a"] == 2


def test_an_undetached_term_changes_nothing(configure, monkeypatch, tmp_path):
    plain = run(configure(*SHORT))

    def step(self, ctx, batch):
        loss = F.cross_entropy(ctx.network(batch.labelled["weak"]), batch.labels)
        return StepOutput(loss, {"cross_entropy": loss})

    monkeypatch.setattr(Supervised, "step", step)
    assert run(configure(*SHORT, f"output_root={tmp_path / 'other'}")).curve == plain.curve


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"f": lambda: 0}, "a checkpoint cannot hold method.f, a function"),
        ({"deep": [{"a": np.ones(2)}]}, "a checkpoint cannot hold method.deep.0.a, a ndarray"),
        ({"path": Path("x")}, "a checkpoint cannot hold method.path, a PosixPath"),
        ({"set": {1}}, "a checkpoint cannot hold method.set, a set"),
    ],
)
def test_state_that_cannot_be_saved_is_refused_before_the_first_step(state, message, configure, monkeypatch):
    monkeypatch.setattr(Supervised, "state_dict", lambda self: state)
    monkeypatch.setattr(Supervised, "step", None)
    with pytest.raises(UserError) as error:
        run(configure(*SHORT))
    assert str(error.value).startswith(message)


def test_numpy_numbers_in_a_state_come_back_plain(tmp_path):
    state = {"a": np.float64(0.5), "b": [np.int64(3)], "c": (np.bool_(True), {np.int64(1): np.str_("x")})}
    checkpoint.save(tmp_path / "c.pt", state, "me")
    back = checkpoint.load(tmp_path / "c.pt", "me")
    assert (back["a"], back["b"], back["c"]) == (0.5, [3], (True, {1: "x"}))
    assert type(back["a"]) is float


def test_what_cannot_be_read_back_does_not_replace_what_can(tmp_path, monkeypatch):
    path = tmp_path / "c.pt"
    checkpoint.save(path, {"epoch": 1}, "me")
    whole = path.read_bytes()
    write = torch.save

    def damages(content, file):
        write(content, file)
        file.seek(0)
        file.write(b"\x00\xff" * 200)

    class Odd(int):
        """Pickled by its class's name, which is never loaded."""

    for broken in (damages, lambda content, file: write(content | {"odd": Odd(3)}, file)):
        monkeypatch.setattr(torch, "save", broken)
        monkeypatch.setitem(globals(), "Odd", Odd)
        Odd.__qualname__ = "Odd"
        with pytest.raises(UserError, match="cannot be read back .*: the last checkpoint was kept"):
            checkpoint.save(path, {"epoch": 2}, "me")
        assert path.read_bytes() == whole
        assert [file.name for file in tmp_path.iterdir()] == ["c.pt"]


@pytest.mark.parametrize(
    "error",
    [OSError(5, "Input/output error"), PermissionError(13, "Permission denied"), OSError(116, "Stale file handle")],
)
def test_a_read_error_is_not_damage(error, configure, monkeypatch, tmp_path):
    run(configure(*SHORT))
    (path,) = tmp_path.rglob("checkpoint.pt")
    path.with_name("record.json").unlink()
    before, read = path.read_bytes(), Path.read_bytes

    def fails(self):
        if self == path:
            raise error
        return read(self)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", fails)
        patch.setattr(Trainer, "run", None)
        with pytest.raises(UserError) as told:
            run(configure(*SHORT))
    assert str(told.value).startswith(f"cannot read the checkpoint {path}: {error.strerror}; it was left as it is")
    for word in ("damaged", "mv ", "remove", "start over"):
        assert word not in str(told.value)
    assert path.read_bytes() == before
    assert run(configure(*SHORT)).status == "finished"


def test_nor_is_a_want_of_memory(tmp_path, monkeypatch):
    checkpoint.save(tmp_path / "c.pt", {}, "me")
    for error in (MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")):

        def fails(*_, error=error, **__):
            raise error

        monkeypatch.setattr(torch, "load", fails)
        with pytest.raises(type(error)):
            checkpoint.read(tmp_path / "c.pt")
