"""What the loop offers a method: phases, modules of its own, averages, hooks, views by name."""

import math

import pytest
import torch
from torch import nn

from fewlabels.benchmark.synthetic import synthetic_data, synthetic_trainer
from fewlabels.methods.base import Method, ParameterGroup
from fewlabels.runs import checkpoint
from fewlabels.train import run
from fewlabels.training import trainer
from fewlabels.types import StepOutput, UserError
from tests.training.test_resume import assert_same

SHORT = ["debug=tiny", "epochs=2", "batch.steps=2", "batch.size=8", "checkpoint_seconds=1e-9"]


class Adversaries(Method):
    """A generator against the network: two phases, a module and a buffer of its own, and every hook."""

    unlabelled_views = {"weak": "weak", "other": "weak"}
    phases = ("discriminator", "generator")
    averaged = ("generator",)
    needs_teacher = True
    seen = None  # of the last object, what it was told

    def __init__(self):
        super().__init__()
        Adversaries.seen = self.told = []

    def build(self, sizes):
        self.shape = sizes.image
        self.generator = nn.Linear(4, sizes.image[0] * sizes.image[1] * sizes.image[2])
        self.register_buffer("times_seen", torch.zeros(sizes.training_images, dtype=torch.int64))
        self.told.append(("counts", sizes.class_counts.tolist()))

    def parameter_groups(self, network, phase):
        if phase == "generator":
            return [ParameterGroup("generator", list(self.generator.parameters()), lr_scale=0.5, weight_decay=0.0)]
        return [ParameterGroup("network", list(network.parameters()))]

    def prepare_batch(self, ctx, batch):
        batch.unlabelled["times"] = self.times_seen[batch.unlabelled_index]
        return batch

    def step(self, ctx, batch):
        noise = torch.rand(4, 4, generator=ctx.generator)
        fake = self.generator(noise).tanh().view(-1, *self.shape)
        self.told.append((ctx.phase, ctx.epoch, ctx.step, ctx.progress.item()))
        if ctx.phase == "generator":
            return StepOutput((ctx.network(fake).logsumexp(1) * -1).mean())
        assert not torch.equal(batch.unlabelled["weak"], batch.unlabelled["other"])
        loss = ctx.network(batch.labelled["weak"]).square().mean() + ctx.network(fake.detach()).square().mean()
        return StepOutput(loss, kept={"index": batch.unlabelled_index, "times": batch.unlabelled["times"]})

    def after_update(self, ctx, batch, kept):
        assert torch.equal(kept["times"], self.times_seen[kept["index"]])
        self.times_seen.index_add_(0, kept["index"], torch.ones_like(kept["index"]))


@pytest.fixture
def adversaries(configure):
    """Its configuration, with these overrides."""
    return lambda *overrides: configure(
        *SHORT, "method._target_=tests.training.test_trainer.Adversaries", "optim.ema_decay=0.5", *overrides
    )


@pytest.fixture
def loop(adversaries, tmp_path):
    def make(*overrides):
        cfg = adversaries(*overrides)
        return synthetic_trainer(cfg, synthetic_data(cfg, 8, 100, 20, classes=10), tmp_path / "loop")

    return make


@pytest.mark.parametrize("accumulate", [1, 2])
def test_each_phase_trains_its_own_weights_in_every_batch(loop, accumulate):
    one = loop(f"optim.accumulate={accumulate}")
    plan = one.begin_epoch()
    own = {"discriminator": one.model, "generator": one.method.generator}
    before = {name: [p.clone() for p in module.parameters()] for name, module in own.items()}
    changed = {}
    for phase, optimiser in one.optimisers.items():

        def step(phase=phase, step=optimiser.step):
            step()
            changed[phase] = {
                name: any(not torch.equal(*pair) for pair in zip(before[name], module.parameters(), strict=True))
                for name, module in own.items()
            }

        optimiser.step = step
    one.train_batch(0, plan.steps)
    assert changed == {
        "discriminator": {"discriminator": True, "generator": False},
        "generator": {"discriminator": True, "generator": True},
    }
    steps = [told for told in one.method.told if told[0] != "counts"]
    assert steps == [("discriminator", 0, 0, 0.0)] * accumulate + [("generator", 0, 0, 0.0)] * accumulate
    assert one.step == 1
    assert one.method.times_seen.sum() == plan.unlabelled
    assert all(p.grad is None for module in own.values() for p in module.parameters())


def test_groups_have_rates_and_decays_of_their_own(loop):
    one = loop("optim.lr=0.1", "optim.weight_decay=0.3")
    one.train_batch(0, one.begin_epoch().steps)
    groups = [group for optimiser in one.optimisers.values() for group in optimiser.param_groups]
    found = [(group["name"], group["lr"], group["weight_decay"], len(group["params"])) for group in groups]
    assert [each for each in found if each[3]] == [
        ("network", 0.1, 0.3, 5), ("network", 0.1, 0.0, 5), ("generator", 0.05, 0.0, 2),
    ]  # fmt: skip


def test_the_method_sees_how_far_training_is(adversaries):
    run(adversaries())
    told = [each for each in Adversaries.seen if each[0] == "generator"]
    assert [each[1:3] for each in told] == [(0, 0), (0, 1), (1, 2), (1, 3)]
    assert [each[3] for each in told] == [0, 0.25, 0.5, 0.75]
    assert sum(Adversaries.seen[0][1]) == 50


STEPS = ["debug=tiny", "scale.max_epochs=null", "scale.max_steps=null", "steps=7", "batch.steps=3", "batch.size=8"]


def test_a_number_of_steps_ends_in_the_middle_of_an_epoch(adversaries, tmp_path):
    result = run(adversaries(*STEPS, f"output_root={tmp_path / 'whole'}"))
    assert [(line["epoch"], line["step"]) for line in result.curve] == [(1, 3), (2, 6), (3, 7)]
    assert "test_accuracy" in result.curve[-1]
    told = [each for each in Adversaries.seen if each[0] == "generator"]
    assert [each[3] for each in told] == pytest.approx([step / 7 for step in range(7)])


def test_as_many_steps_as_epochs_have_are_the_same_run(adversaries, tmp_path):
    epochs = run(adversaries(*STEPS, "steps=null", "epochs=2", f"output_root={tmp_path / 'epochs'}"))
    steps = run(adversaries(*STEPS, "steps=6", f"output_root={tmp_path / 'steps'}"))
    assert epochs.curve == steps.curve
    assert epochs.fingerprint != steps.fingerprint


def test_the_schedule_counts_the_given_steps(adversaries):
    result = run(adversaries(*STEPS, "optim.schedule=cosine", "optim.lr=1.0"))
    assert result.curve[-1]["lr"] == pytest.approx(0.5 * (1 + math.cos(math.pi * 6 / 7)))


@pytest.mark.parametrize(
    ("minutes", "said"),
    [(1, "1 min"), (119, "119 min"), (121, "2 h"), (2879, "48 h"), (4320, "3 days"), (2**21, "1,456 days")],
)
def test_a_long_estimate_is_in_hours_or_days(minutes, said):
    assert trainer._duration(minutes) == said


def test_a_smoke_run_cuts_the_steps(adversaries):
    result = run(adversaries(*STEPS, "scale.max_epochs=2", "scale.max_steps=2", "steps=3"))
    assert [line["step"] for line in result.curve] == [2, 3]
    assert run(adversaries(*STEPS, "scale.max_epochs=2", "scale.max_steps=2")).curve[-1]["step"] == 4


@pytest.mark.parametrize(
    ("method", "needed"),
    [
        (["method=pseudo_label"], "batch.steps, for its epochs may differ in length"),
        (["optim.step_every=epoch"], "optim.step_every=batch"),
    ],
)
def test_steps_are_refused_where_they_cannot_be_counted(configure, method, needed):
    with pytest.raises(UserError, match=f"steps=7: method .* needs {needed}"):
        run(configure("debug=tiny", "steps=7", *method))


def test_what_a_method_owns_is_saved_restored_and_averaged(adversaries, tmp_path, monkeypatch):
    whole = adversaries(f"output_root={tmp_path / 'whole'}")
    run(whole)
    killed = adversaries(f"output_root={tmp_path / 'killed'}")
    update, calls = Adversaries.after_update, []

    def die(self, *arguments):
        update(self, *arguments)
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Adversaries, "after_update", die)
        with pytest.raises(KeyboardInterrupt):
            run(killed)
    run(killed)
    states = [checkpoint.read(next((tmp_path / name / "runs").iterdir()) / "checkpoint.pt") for name in ("whole", "killed")]
    for key in ("model", "ema", "averages", "method"):
        assert_same(states[0][key], states[1][key])
    assert not torch.equal(states[0]["averages"]["generator"]["weight"], states[0]["method"]["generator.weight"])
    assert states[0]["method"]["times_seen"].sum() > 0


def test_two_seeds_differ_in_its_modules_and_one_seed_is_one(loop, adversaries, tmp_path):
    def fresh(seed, place):
        cfg = adversaries(f"seed={seed}")
        made = synthetic_trainer(cfg, synthetic_data(cfg, 8, 100, 20, classes=10), tmp_path / place)
        return made.method.generator.weight

    assert torch.equal(fresh(0, "a"), fresh(0, "b"))
    assert not torch.equal(fresh(0, "c"), fresh(1, "d"))


class Twice(Adversaries):
    def parameter_groups(self, network, phase):
        return [ParameterGroup("network", list(network.parameters()))]


class Nothing(Adversaries):
    def parameter_groups(self, network, phase):
        return [] if phase == "generator" else super().parameter_groups(network, phase)


class OneGroupTwice(Adversaries):
    phases = ("discriminator",)

    def parameter_groups(self, network, phase):
        return super().parameter_groups(network, phase) * 2


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("Twice", (), "phase 'generator' trains a weight a second time"),
        ("OneGroupTwice", (), "phase 'discriminator' trains a weight a second time"),
        ("Nothing", (), "phase 'generator' trains nothing"),
        ("Adversaries", ("optim.ema_decay=null",), "needs the average of the weights: set optim.ema_decay"),
        (
            "Adversaries",
            ("optim.step_every=epoch", "batch.order=in_turn", "batch.steps=null"),
            "acts after each batch: set optim.step_every=batch",
        ),
    ],
)
def test_what_no_loop_can_train_is_refused(adversaries, name, overrides, message):
    with pytest.raises(UserError, match=message):
        run(adversaries(f"method._target_=tests.training.test_trainer.{name}", *overrides))


class Forgetful(Method):
    def __init__(self):
        self.weight = 1.0

    def step(self, ctx, batch):
        raise AssertionError


def test_a_method_that_is_no_module_yet_is_told_how_to_become_one(adversaries):
    with pytest.raises(UserError, match=r"Forgetful: its __init__ must begin with super\(\).__init__\(\)"):
        run(adversaries("method._target_=tests.training.test_trainer.Forgetful"))


class OwnHead(Method):
    """A weight of its own, and one update an epoch."""

    def build(self, sizes):
        self.head = nn.Linear(sizes.embedding, sizes.classes)

    def step(self, ctx, batch):
        embedding = ctx.network.activations(batch.labelled["weak"]).embedding
        return StepOutput(nn.functional.cross_entropy(self.head(embedding), batch.labels))


def test_the_gradient_of_an_epoch_of_what_a_method_owns_outlives_a_kill(configure, tmp_path, monkeypatch):
    def settings(place):
        return configure(
            *SHORT, "method._target_=tests.training.test_trainer.OwnHead", "optim=sgd", "optim.step_every=epoch",
            "batch.order=in_turn", "batch.steps=null", f"output_root={tmp_path / place}",
        )  # fmt: skip

    run(settings("whole"))
    step, calls = OwnHead.step, []

    def die(self, ctx, batch):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return step(self, ctx, batch)

    with monkeypatch.context() as patch:
        patch.setattr(OwnHead, "step", die)
        with pytest.raises(KeyboardInterrupt):
            run(settings("killed"))
    run(settings("killed"))
    folders = [next((tmp_path / place / "runs").iterdir()) for place in ("whole", "killed")]
    states = [checkpoint.read(folder / "checkpoint.pt") for folder in folders]
    for key in ("model", "method"):
        assert_same(states[0][key], states[1][key])


@pytest.mark.parametrize("method", ["pi_model", "temporal_ensembling"])
def test_a_weight_by_the_share_of_labels_needs_some(method, configure):
    with pytest.raises(UserError, match="weighs its loss by the share of labels, and dataset.num_labels=0"):
        run(configure(*SHORT, f"method={method}", "dataset.num_labels=0", "batch.steps=2"))


def test_a_look_at_weak_views_draws_anew_each_epoch_and_the_same_in_every_session(configure, tmp_path):
    cfg = configure("debug=tiny", "method=pseudo_label", "method.predicted_view=weak", "epochs=2")
    found = {}
    for session in range(2):
        one = synthetic_trainer(cfg, synthetic_data(cfg, 8, 100, 20, 10), tmp_path / str(session))
        for epoch in range(2):
            one.epoch = epoch
            for view in ("plain", "weak"):
                found[session, epoch, view] = one._whole_set().predict(one.model, view)[0]
        assert torch.equal(one._whole_set().predict(one.model)[0], found[session, 1, "plain"])
    assert torch.equal(found[0, 0, "plain"], found[1, 1, "plain"])
    assert torch.equal(found[0, 1, "weak"], found[1, 1, "weak"])
    for views in ((found[0, 0, "weak"], found[0, 1, "weak"]), (found[0, 0, "weak"], found[0, 0, "plain"])):
        assert not torch.equal(*views)
