"""What the papers print and say of their training, typed from their texts, against the files of conf/table/."""

from itertools import product

import pytest

from fewlabels.config.compose import cells
from fewlabels.report.spec.definitions import load_definitions
from fewlabels.system.paths import conf_dir

AS_PUBLISHED = " as published"  # at the end of the columns of what an author's own code does
CIFAR = ["cifar10_250", "cifar10_4000", "cifar100_2500", "cifar100_10000"]
# Table -> columns, then the rows as printed; "-" where a cell is empty.
PRINTED = {
    "alshami_1": (
        CIFAR,
        """
        0.95: 66.682 | 30.042 | 80.583 | 63.644
        0.75: 68.908 | 26.534 | 81.916 | 62.475
        0.6:  73.936 | 25.113 | 80.654 | 61.36
        """,
    ),
    "alshami_2": (CIFAR, "VAT: 68.362 | 27.557 | 83.454 | 60.683"),
    "alshami_3": (
        CIFAR,
        """
        0.95: 73.47 | 24.43 | 87.58 | 63.43
        0.75: 90.01 | 26.93 | 87.68 | 65.51
        0.6:  75.31 | 36.03 | 89.79 | 70.23
        """,
    ),
    "balestriero_1": (
        ["mnist_50"],
        """
        Resnet2-32max, Gamma: 99.14
        Improved GAN: 97.79 ± 1.36
        """,
    ),
    "balestriero_2": (
        ["svhn_500", "svhn_1000"],
        """
        Large CNN, lambda: 10.17 | 7.20
        Deep Resnet, lambda: 11.08 | 8.28
        Wide Resnet, lambda: 9.82 ± 1.5 | 7.14 ± 0.3
        Large CNN, Gamma: 11.67 | 9.51
        Wide Resnet, Gamma: 12.36 | 10.17
        Deep Resnet, Gamma: 8.95 | 11.27
        Sigmoid Wide Resnet, lambda: 20.35 ± 6.2 | 7.78 ± 0.2
        mean, lambda: 10.35 ± 0.53 | 7.54 ± 0.52
        mean, Gamma: 10.99 ± 1.80 | 10.32 ± 0.89
        Improved GAN: 18.44 ± 4.8 | 8.11 ± 1.3
        Auxiliary Deep Generative Model: - | 22.86
        Skip Deep Generative Model: - | 16.61 ± 0.24
        Virtual Adversarial: - | 24.63
        DGN: - | 36.02 ± 0.1
        Triple GAN: - | 94.23 ± 0.17
        Bad GAN: - | 95.75 ± 0.03
        Pi-model: 92.95 ± 0.3 | 94.57 ± 0.25
        VAT: - | 75.37
        """,
    ),
    "balestriero_3": (
        ["cifar10_4000", "cifar10_8000"],
        """
        CNN, lambda: 22.63 ± 0.44 | 17.92 ± 0.3
        Wide Resnet, lambda: 23.71 | 19.63
        Deep Resnet, lambda: 28.64 | 24.53
        CNN, Gamma: 25.19 | 19.96
        Deep Resnet, Gamma: 27.62 | 21.99
        Wide Resnet, Gamma: 26.18 | 21.24
        Sigmoid CNN, lambda: 21.91 ± 0.42 | 16.45 ± 0.23
        mean, lambda: 24.99 ± 2.61 | 20.69 ± 2.8
        mean, Gamma: 26.33 ± 0.79 | 21.06 ± 1.03
        Improved GAN: 18.63 ± 2.32 | 17.72 ± 1.82
        Ladder network: 20.40 ± 0.47 | -
        CatGAN: 19.58 ± 0.46 | -
        DRMM + KL penalty: 23.24 | -
        Triple GAN: 83.01 ± 0.36 | -
        Bad GAN: 85.59 ± 0.30 | -
        Pi-model: 83.45 ± 0.29 | -
        """,
    ),
    "bansal_baseline": (["top-1"], "baseline: 42.04"),
}


def spread(entry, metric):
    """As printed: the number, and its deviation where there is one."""
    if not entry:
        return "-"
    return f"{entry[metric]} ± {entry['std']}" if "std" in entry else str(entry[metric])


@pytest.mark.parametrize("name", PRINTED)
def test_numbers_are_those_of_the_paper(name):
    table, (columns, text) = load_definitions(conf_dir())[name], PRINTED[name]
    metric, published = next(iter(table.metrics)), [f"{column}{AS_PUBLISHED}" for column in columns]
    assert [column for column in table.columns if column not in published] == columns
    assert set(table.columns) in ({*columns}, {*columns, *published})
    for row, column in product(table.reported, set(table.columns) & set(published)):  # by a metric of each cell's own
        printed = [number for place in table.all_printed() if place[:2] == (row, column) for number in [place[3].value]]
        assert printed == [table.reported_value(row, column.removesuffix(AS_PUBLISHED), metric)]
    reported = {row: {column: cell.get(column, cell) for column in columns} for row, cell in table.reported.items()}
    ours = {row: [spread(cell[column], metric) for column in columns] for row, cell in reported.items()}
    ours |= {row: [spread(d.reported.get(column), metric) for column in columns] for row, d in table.derived.items()}
    ours |= {quoted.row: [quoted.values.get(column, "-") for column in columns] for quoted in table.quoted}
    expected = {}
    for line in text.strip().splitlines():
        row, _, values = line.strip().partition(":")
        expected[row] = [value.strip() for value in values.split("|")]
    assert ours == expected


# Table -> what its text says of every cell, at paper scale.
SAID = {
    "alshami_1": {"epochs": 300, "method.warmup_epochs": 10, "method.update": "refresh"},
    "alshami_2": {
        "epochs": 300, "method.warmup_epochs": 35, "method.xi": 10, "method.eps": 10, "method.use_entmin": False,
    },
    "alshami_3": {"epochs": 200},
    "balestriero_1": {"method.reconstruction": "gamma", "method.a": 0.7, "method.b": 0.2},
    "bansal_fig1_left": {"method.alpha": 0.8},
    "bansal_fig1_right": {"method.alpha": 0.8, "batch.labelled_share": 0.7},
    "srikanth_2": {"epochs": 35, "dataset.num_unlabelled": 20000},
}  # fmt: skip
BALESTRIERO = {
    "epochs": 400, "optim.name": "adam", "optim.lr": 0.002, "optim.schedule": "halving", "optim.milestones": [150, 300],
    "batch.size": 50, "batch.labelled_share": 0.5, "batch.epoch_of": "unlabelled", "views.per_image": True,
}  # fmt: skip
for number in (1, 2, 3):
    SAID[f"balestriero_{number}"] = BALESTRIERO | SAID.get(f"balestriero_{number}", {})
for number in (1, 2):
    adam = {"optim.name": "adam", "optim.lr": 0.001, "optim.schedule": "constant", "batch.size": 64}
    SAID[f"srikanth_{number}"] = adam | SAID.get(f"srikanth_{number}", {})
# And what differs from row to row.
ROWS = {
    "alshami_1": {row: {"method.threshold": float(row)} for row in ("0.95", "0.75", "0.6")},
    "alshami_2": {"VAT": {"method.iterations": 5}, "random perturbations": {"method.iterations": 0}},
    "alshami_3": {row: {"method.threshold": float(row)} for row in ("0.95", "0.75", "0.6")},
    "bansal_fig1_left": {
        row: {"batch.labelled_share": float(row)} for row in ("0.25", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9", "1.0")
    },
    "srikanth_1": {
        str(m): {"epochs": epochs, "dataset.num_labels": 50000 - m}
        for m, epochs in {0: 35, 50: 31, 5000: 58, 40000: 54, 50000: 36}.items()
    },
    "srikanth_2": {
        f"{kmeans:g} / {augment:g} / {labelled:g}": {
            "method.w_kmeans": kmeans, "method.w_augment": augment, "method.w_labeled": labelled,
        }
        for kmeans, augment, labelled in ((0.025, 0.25, 1), (0.25, 0.25, 1), (100, 0.125, 0.5))
    },
}  # fmt: skip


@pytest.mark.parametrize("name", SAID)
def test_training_is_as_the_paper_says(name):
    for cfg in cells(name, "scale=paper"):
        if cfg.table["column"].endswith(AS_PUBLISHED):
            continue
        for key, expected in (SAID[name] | (ROWS[name][cfg.table["row"]] if name in ROWS else {})).items():
            found = cfg
            for part in key.split("."):
                found = found[part]
            assert found == expected, (cfg.table["row"], key)


# What the public code of Alshami and Arya does, and the logs have: for every cell of a table, then of a column.
ADAMW = {"optim.name": "adamw", "optim.amsgrad": True, "optim.beta1": 0.9}
PUBLIC = {
    "optim.weight_decay": 5e-5,
    "optim.decay_all": True,
    "model.depth": 28,
    "model.width": 2,
    "model.negative_slope": 0,
}
PUBLIC |= {"model.batch_norm_momentum": 0.1, "optim.ema_decay": None, "dataset.labelled_in_unlabelled": True}
CODE = {
    "alshami_1": PUBLIC | ADAMW | {
        "optim.lr": 0.001, "optim.schedule": "periodic_cosine", "optim.period": 10, "optim.floor": 1 / 50,
        "optim.schedule_every": "epoch", "epochs": 300, "method.warmup_epochs": 10, "optim.reload_best_after": 10,
        "optim.watch": "test_loss", "method.update": "refresh", "method.predicted_view": "weak",
        "method.keep_when_none": True, "method.stored": "normalised_bytes", "model.last_layer": "uniform",
    },
    "alshami_2": PUBLIC | ADAMW | {
        "optim.lr": 0.03, "optim.schedule": "plateau", "optim.plateau_factor": 0.5, "optim.plateau_patience": 10,
        "optim.plateau_threshold": 1e-4, "optim.plateau_cooldown": 4, "optim.plateau_least_lr": 1e-7,
        "optim.watch": "test_loss", "method.statistics": "all", "batch.labelled_share": 0.5, "model.last_layer": "uniform",
    },
    "alshami_3": PUBLIC | {
        "optim.name": "sgd", "optim.momentum": 0.9, "optim.nesterov": False, "optim.lr": 0.003, "epochs": 100,
        "optim.schedule": "fixmatch", "optim.schedule_every": "epoch", "batch.labelled_share": 0.5, "model.maps": 2,
        "method.passes": "separate", "method.mean": "confident", "method.positions": "mean", "method.target_gradient": True,
        "model.module": "one_convolution", "model.attend": "before", "model.last_layer": "torch",
        "views.strong": "fixmatch_pytorch", "views.num_ops": 2, "views.magnitude": 10, "views.cutout": 0.5,
    },
}  # fmt: skip
CODE_BY_COLUMN = {
    "alshami_1": {CIFAR[0]: {"batch.size": 250}} | {column: {"batch.size": 512} for column in CIFAR[1:]},
    "alshami_2": {
        column: {
            "method.xi": xi, "method.eps": xi, "epochs": epochs, "method.warmup_epochs": warmup, "batch.every": every,
            "optim.reload_best_after": warmup, "batch.size": 2 * size, "batch.labelled_size": size,
        }
        for column, (xi, epochs, warmup, every, size) in {
            "cifar10_250": (8, 50, 40, 1, 250), "cifar10_4000": (10, 300, 35, 4, 1024),
            "cifar100_2500": (8, 300, 35, 3, 1024), "cifar100_10000": (10, 200, 50, 10, 1024),
        }.items()
    },
    "alshami_3": {CIFAR[0]: {"batch.size": 500}} | {column: {"batch.size": 1024} for column in CIFAR[1:]},
}  # fmt: skip


@pytest.mark.parametrize("name", CODE)
def test_as_published_is_what_the_authors_code_does(name):
    seen = set()
    for cfg in cells(name, "scale=paper"):
        column = cfg.table["column"]
        if not column.endswith(AS_PUBLISHED):
            continue
        seen.add(column)
        for key, expected in (CODE[name] | CODE_BY_COLUMN[name][column.removesuffix(AS_PUBLISHED)]).items():
            found = cfg
            for part in key.split("."):
                found = found[part]
            assert found == expected, (column, key)
        if cfg.table["row"] == "VAT":
            assert cfg.method.iterations == {8: 4, 10: 5}[cfg.method.xi]
    assert len(seen) == 4


def passes(cfg):
    """How often a run sees each labelled image."""
    num_labels, num_unlabelled, batch = cfg.dataset.num_labels, cfg.dataset.num_unlabelled, cfg.batch
    if cfg.table["id"] == "bansal_baseline":
        return cfg.epochs
    labelled = round(batch.size * batch.labelled_share) if num_unlabelled else batch.size
    steps = batch.steps or -(-(num_labels + num_unlabelled) // batch.size)
    return cfg.epochs * steps * labelled / num_labels


@pytest.mark.parametrize(("scale", "baseline", "others"), [("paper", 90, 89.5), ("proxy", 30, 29)])
def test_bansal_s_runs_see_the_labelled_images_as_often_as_the_baseline(scale, baseline, others):
    """Those with R/T = 0.7 that stand against it, as their decisions and notes say."""
    assert [passes(cfg) for cfg in cells("bansal_baseline", f"scale={scale}")] == [baseline]
    compared = [*cells("bansal_control", f"scale={scale}"), *cells("bansal_fig1_right", f"scale={scale}")]
    compared += [cfg for cfg in cells("bansal_fig1_left", f"scale={scale}") if cfg.table["row"] == "0.7"]
    assert len(compared) == 10
    assert [passes(cfg) for cfg in compared] == pytest.approx([others] * 10, abs=0.07)
    if scale == "paper":
        assert all("R/T = 0.7 sees the labelled images 89.5 times" in cfg.decisions["bansal.passes"] for cfg in compared)
        assert {cfg.epochs * 1032 for cfg in compared} == {31992}


def test_what_the_papers_claim_is_judged():
    tables = load_definitions(conf_dir())
    kinds = {name: [claim.kind for claim in table.claims] for name, table in tables.items()}
    for name in ("alshami_2", "alshami_3", "bansal_fig1_left", "bansal_fig1_right"):
        assert "beats_across" in kinds[name], name
    for name in ("balestriero_2", "balestriero_3"):
        assert kinds[name].count("curve_turns") == 2
        assert kinds[name].count("ends_below") == 3
        assert "beats_quoted" in kinds[name]
    for name in ("srikanth_1", "srikanth_2"):
        assert {"near", "curve_turns"} <= {*kinds[name]}
    # As far as the table's own numbers bear a claim, the text has claimed what it printed.
    for name in ("srikanth_1", "srikanth_2"):
        (near,) = (claim for claim in tables[name].claims if claim.kind == "near")
        reported = [tables[name].reported_value(row, "as_published", near.metric) for row in near.rows]
        assert all(abs(value - near.value) < near.within for value in reported)
    for name in ("balestriero_2", "balestriero_3"):
        table = tables[name]
        for claim in table.claims:
            if claim.kind == "beats_quoted":
                quoted = next(quoted for quoted in table.quoted if quoted.row == claim.quoted)
                for column in claim.columns:
                    printed = {row: table.reported_value(row, column, claim.metric) for row in [*claim.better, *claim.worse]}
                    assert all(printed[row] < quoted.number(column) for row in claim.better)
                    assert all(printed[row] > quoted.number(column) for row in claim.worse)
    for name in ("alshami_2", "alshami_3"):
        for claim in tables[name].claims:
            if claim.kind == "beats_across":
                for better, worse in claim.pairs:
                    first, second = (tables[p.table].reported_value(p.row, p.column, claim.metric) for p in (better, worse))
                    assert first < second
