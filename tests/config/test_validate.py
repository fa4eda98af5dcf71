"""Composition: every file of conf/ fits the schema, and the fingerprint says what it should."""

import itertools

import pytest
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf
from omegaconf.errors import InterpolationValidationError

from fewlabels.config.reference import schema_keys
from fewlabels.config.validate import check, resolved
from fewlabels.launch.errors import explain
from fewlabels.runs.fingerprint import fingerprint
from fewlabels.system.paths import conf_dir
from fewlabels.types import UserError

GROUPS = {
    group: sorted(file.stem for file in (conf_dir() / group).glob("*.yaml"))
    for group in ("dataset", "model", "method", "optim", "scale", "hardware", "tracking", "search", "debug")
}
GOLDEN = {
    "alphamatch": "4db53105",
    "attention_fixmatch": "e69866f1",
    "comatch": "bd8a1e2c",
    "entropy": "5bb47293",
    "fixmatch": "62a655eb",
    "flexmatch": "08882e84",
    "freematch": "e8b695b2",
    "improved_gan": "bed4e308",
    "inversion": "7ac82a70",
    "kmeans_fixmatch": "4c2b5e8b",
    "ladder": "c83ffde8",
    "lee_pseudo_label": "d9a4d33b",
    "mean_teacher": "7517f4ac",
    "mixmatch": "f82a30a9",
    "pi_model": "60d6741c",
    "pseudo_label": "c4a94f77",
    "remixmatch": "4cc4d043",
    "simmatch": "9e85b8c1",
    "simple_ssl": "838b9509",
    "softmatch": "1b6b574a",
    "supervised": "9e6c73c1",
    "temporal_ensembling": "43a18513",
    "uda": "e814dca8",
    "vat": "b2d08bdf",
}
MUST_BE_GIVEN = {"timm": "model.timm_name=resnet18"}


@pytest.mark.parametrize(("group", "option"), [(g, o) for g, options in GROUPS.items() for o in options])
def test_every_option_composes_and_passes_the_checks(group, option, configure):
    check(configure(f"{group}={option}", *([MUST_BE_GIVEN[option]] if option in MUST_BE_GIVEN else [])))


@pytest.mark.parametrize(("method", "dataset"), [*itertools.product(GROUPS["method"], ["cifar10_250", "svhn_1000"])])
def test_every_method_composes_with_other_data(method, dataset, configure):
    cfg = configure(f"method={method}", f"dataset={dataset}")
    assert cfg.views.flip == (dataset == "cifar10_250")


SETTINGS = {
    "cifar10_250": (250, None),
    "cifar10_4000": (4000, None),
    "cifar10_8000": (8000, None),
    "cifar100_2500": (2500, None),
    "cifar100_10000": (10000, None),
    "svhn_500": (500, None),
    "svhn_1000": (1000, None),
    "mnist_50": (50, None),
    "imagenet_64k_200k": (64000, 200000),
    "cifar10_srikanth": (30000, 20000),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_the_papers_label_counts(name, configure):
    dataset = configure(f"dataset={name}").dataset
    assert (dataset.num_labels, dataset.num_unlabelled) == SETTINGS[name]


def test_the_srikanth_tables_set_what_the_text_says(configure):
    def cell(table, row, column="as_published"):
        return configure(f"table={table}", f"table.row='{row}'", f"table.column={column}")

    first = cell("srikanth_1", "5000")
    assert (first.epochs, first.dataset.num_labels, first.dataset.num_unlabelled) == (58, 45000, 5000)
    assert (first.optim.name, first.optim.lr, first.optim.step_every, first.optim.keep_gradient) == (
        "adam",
        0.001,
        "epoch",
        False,
    )
    assert (first.views.notebook, first.views.test, first.batch.order, first.batch.size) == (True, "flip", "in_turn", 64)
    assert cell("srikanth_1", "50000").optim.keep_gradient  # never zeroed without labels
    last = cell("srikanth_2", "100 / 0.125 / 0.5", "corrected")
    assert (last.method.w_kmeans, last.method.w_augment, last.method.w_labeled) == (100, 0.125, 0.5)
    assert (last.epochs, last.dataset.num_unlabelled, last.optim.step_every) == (35, 20000, "batch")
    assert (last.views.notebook, last.views.test, last.batch.order) == (False, "plain", "together")


def identity(cfg):
    return fingerprint(cfg, "data", "split")


def test_the_fingerprint_ignores_places_and_trackers(configure):
    base = identity(configure())
    for override in (
        "output_root=elsewhere",
        "dataset.path=elsewhere",
        "tracking=wandb",
        "hardware=cpu",
        "hardware.compile=false",
        "checkpoint_seconds=5",
    ):
        assert identity(configure(override)) == base


def test_the_fingerprint_ignores_how_a_number_is_written_and_defaults(configure):
    base = configure("method=entropy")
    assert identity(configure("method=entropy", "method.beta=0", "method.alpha=0.80")) == identity(base)
    del base.method.beta  # at its default
    del base.batch.steps
    assert identity(base) == identity(configure("method=entropy"))


def test_the_fingerprint_knows_a_precision_that_was_asked_for(configure):
    auto, full, half = (identity(configure(f"hardware.precision={p}")) for p in ("auto", "fp32", "bf16"))
    assert len({auto, full, half}) == 3


def test_the_fingerprint_follows_what_changes_the_result(configure):
    changes = ["seed=1", "epochs=31", "eval_every=2", "scale=smoke", "batch.size=32", "views.padding=2", "optim.lr=0.01"]
    changes += ["dataset.num_labels=100", "dataset.split_seed=7", "model=wide_resnet_28_2", "optim=fixmatch"]
    changes += ["method=fixmatch", "method=entropy", "hardware.compile=true"]
    identities = [identity(configure(change)) for change in changes]
    assert len({*identities, identity(configure())}) == len(changes) + 1
    assert len({fingerprint(configure(), *digests) for digests in (("a", "b"), ("a", "c"), ("d", "b"))}) == 3


def test_a_number_of_steps_takes_the_place_of_the_epochs_in_the_fingerprint(configure):
    steps = identity(configure("steps=100"))
    assert steps == identity(configure("steps=100", "epochs=7"))
    assert len({steps, identity(configure("steps=101")), identity(configure())}) == 3


def test_fixmatch_alone_is_the_published_recipe(configure):
    cfg = configure("method=fixmatch")
    assert (cfg.batch.size * cfg.batch.labelled_share, cfg.batch.size, cfg.epochs * cfg.batch.steps) == (64, 512, 2**20)
    assert (cfg.optim.name, cfg.optim.lr, cfg.optim.momentum, cfg.optim.nesterov) == ("sgd", 0.03, 0.9, True)
    assert (cfg.optim.schedule, cfg.optim.weight_decay, cfg.optim.ema_decay) == ("fixmatch", 5e-4, 0.999)
    assert (cfg.views.strong, cfg.views.cutout, cfg.method.threshold, cfg.method.weight) == ("fixmatch", 0.5, 0.95, 1.0)


def test_a_table_and_the_command_line_override_what_a_method_brings(configure):
    assert configure("table=demo", "method=fixmatch").optim.name == "adam"
    assert configure("method=fixmatch", "optim=adam").optim.name == "adam"


def test_the_fingerprint_of_the_defaults_is_this_one(configure):
    """It changes when a default does. Then raise RESULTS_VERSION if runs of the old default are not runs of the new one."""
    identities = [identity(configure(f"method={m}", "hardware.precision=auto"))[:8] for m in GROUPS["method"]]
    found = dict(zip(GROUPS["method"], identities, strict=True))
    assert found.keys() == GOLDEN.keys(), "a new method: add its line to GOLDEN (it does not raise RESULTS_VERSION)"
    assert found == GOLDEN


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["method=fixmatch", "method.threshold=high"], "method.threshold=high must be a number"),
        (["method=vat", "method.iterations=1.5"], "method.iterations=1.5 must be a whole number"),
        (["method=vat", "method.use_entmin=3"], "method.use_entmin=3 must be true or false"),
        (["trainable=body"], "trainable=body is none of all, head"),
        (["batch.steps=0"], "batch.steps=0 must be at least 1"),
        (["hardware.threads=0"], "hardware.threads=0 must be at least 1"),
        (["optim.lr=-1"], "optim.lr=-1.0 must be positive"),
        (["method=pseudo_label", "optim.accumulate=2"], "optim.accumulate must be 1 with batch.order=joined"),
        (["epochs=0"], "epochs=0 must be at least 1"),
        (["steps=0"], "steps=0 must be at least 1"),
        (["batch.size=0"], "batch.size=0 must be at least 1"),
        (["seed=-1"], "seed=-1"),
        (["optim.schedule=step"], "optim.schedule=step is none of constant, halving, linear, cosine, fixmatch"),
        (["optim.ema_decay=1"], "optim.ema_decay=1"),
        (["optim.name=lion"], "optim.name=lion is none of adam, adamw, sgd"),
        (["trainable=head", "hardware.compile=true"], "hardware.compile must be false with trainable=head"),
        (["optim.step_every=epoch", "optim.accumulate=2"], "optim.accumulate must be 1"),
        (["dataset.std=[1,1]"], "one value a channel"),
        (
            ["method._target_=fewlabels.methods.nothing.Nothing"],
            "method._target_=fewlabels.methods.nothing.Nothing cannot be imported",
        ),
        (["model=timm"], "model.timm_name must be given"),
        (["+method.colour=1"], "method.colour: Supervised takes"),
    ],
)
def test_settings_that_do_not_fit_are_refused(overrides, message, configure):
    with pytest.raises((UserError, ConfigCompositionException)) as error:
        check(configure(*overrides))
    assert message in explain(error.value)


CHOICES = [(key.name, key.choices) for key in schema_keys() if key.choices]


@pytest.mark.parametrize(("key", "choices"), CHOICES)
def test_a_wrong_choice_fails_at_composition_with_the_choices_and_the_nearest(key, choices, configure, tmp_path):
    search = ["search=tpe"] if key.startswith("search.") else []
    with pytest.raises(ConfigCompositionException) as error:
        configure(*search, f"{key}={choices[-1]}x")
    assert explain(error.value) == (f"{key}={choices[-1]}x is none of {', '.join(choices)}; did you mean {choices[-1]}?")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("key", "choices"), CHOICES)
def test_every_choice_is_a_plain_word_in_what_is_recorded_and_looked_up(key, choices, configure):
    cfg = configure(*(["search=tpe"] if key.startswith("search.") else []))
    for choice in choices:
        OmegaConf.update(cfg, key, choice)
        OmegaConf.update(cfg, "decisions.of", f"${{{key}}}", force_add=True)
        OmegaConf.update(cfg, "decisions.by", f"${{choose:${{{key}}},{{{choice}: yes}}}}", force_add=True)
        node = resolved(cfg)
        assert node["decisions"] == {"of": choice, "by": "yes"}
        for part in key.split("."):
            node = node[part]
        assert (type(node), node) == (str, choice)
        assert OmegaConf.select(cfg, key) == choice


def test_a_choice_that_is_looked_up_is_checked_as_well(configure):
    cfg = configure("optim.schedule=${oc.env:NO_SUCH_NAME,cosin}")
    with pytest.raises(InterpolationValidationError) as error:
        check(cfg)
    assert explain(error.value).startswith("optim.schedule=cosin is none of")


def test_resolved_values_are_plain(configure):
    values = resolved(configure("method=kmeans_fixmatch"))
    assert values["batch"]["order"] == "together"
    assert values["dataset"]["split_seed"] == 0
