"""Every table of conf/table/: exactly its cells at every scale, and cells that really train, at smoke scale."""

import itertools

import numpy as np
import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from fewlabels.config.compose import cells, sweep
from fewlabels.config.validate import check
from fewlabels.data.images import ImageData, ImageSet
from fewlabels.report.spec.definitions import load_definitions
from fewlabels.system.paths import conf_dir
from fewlabels.train import run
from tests.conftest import png, random_images
from tests.data.test_sources import make_svhn
from tests.models.test_bf16 import in_cells

TABLES = sorted(file.stem for file in (conf_dir() / "table").glob("*.yaml"))
CLASSES = {"cifar100": 100, "tiny_imagenet_32": 32, "imagenet": 1000}
# What the write-ups report, and the benchmark, demo and the initialisations of the transfer table, which are ours.
CELLS = {
    "alshami_1": 24,
    "alshami_2": 16,
    "alshami_3": 24,
    "balestriero_1": 1,
    "balestriero_2": 14,
    "balestriero_3": 14,
    "bansal_all": 5,
    "bansal_baseline": 1,
    "bansal_control": 3,
    "bansal_fig1_left": 8,
    "bansal_fig1_right": 6,
    "bansal_locality": 8,
    "bansal_nbel": 10,
    "bansal_pretrain": 2,
    "bansal_transfer": 6,
    "benchmark": 51,
    "demo": 5,
    "srikanth_1": 10,
    "srikanth_2": 6,
}


def compose_cell(configure, *overrides):
    cfg = configure(*overrides, hydra=True)
    HydraConfig.instance().set_config(cfg)
    del cfg.hydra
    OmegaConf.resolve(cfg)
    return cfg


def test_no_table_escapes_these_tests():
    assert list(CELLS) == TABLES


@pytest.mark.parametrize("table", TABLES)
def test_every_table_expands_to_exactly_its_cells(table, configure):
    definition = load_definitions(conf_dir())[table]
    found = cells(table)
    for cfg in found:
        check(cfg)
        assert in_cells(cfg)  # its network was tried in bf16
    places = [(cfg.table.row, cfg.table.column) for cfg in found]
    assert len({(*place, cfg.seed) for place, cfg in zip(places, found, strict=True)}) == len(found)
    assert set(places) == set(itertools.product(definition.rows, definition.columns))
    assert len(set(places)) == CELLS[table]
    assert set(definition.reported) <= set(definition.rows)


@pytest.mark.parametrize("scale", ["proxy", "smoke"])
@pytest.mark.parametrize("table", [t for t in TABLES if t != "demo"])
def test_a_smaller_scale_is_smaller(table, scale, configure):
    first = sweep(configure(f"table={table}", hydra=True))[0]
    paper, small = (compose_cell(configure, f"table={table}", f"scale={s}", *first) for s in ("paper", scale))
    check(small)
    assert in_cells(small)
    assert min(small.epochs, small.scale.max_epochs or small.epochs) < paper.epochs
    assert load_definitions(conf_dir())[table].proxy


def synthetic_data(cfg):
    """Random images, as many as the cell's split needs, in the place of the archive."""
    classes = CLASSES.get(cfg.dataset.name, 10)
    size = cfg.dataset.image_size or (28 if cfg.dataset.name == "mnist" else 32)
    channels = len(cfg.dataset.mean)
    rng = np.random.default_rng(0)

    def images(count):
        return ImageSet(
            rng.integers(0, 256, (count, size, size, channels), dtype=np.uint8), np.arange(count, dtype=np.int64) % classes
        )

    labelled, unlabelled = cfg.dataset.num_labels, cfg.dataset.num_unlabelled
    count = labelled + (10 * classes if unlabelled is None else unlabelled)
    return ImageData(images(count), images(2 * classes), tuple(map(str, range(classes))), f"made up, {count}")


def smoke(configure, monkeypatch, *overrides):
    cfg = compose_cell(configure, "scale=smoke", *overrides)
    monkeypatch.setattr("fewlabels.train.open_images", synthetic_data)
    result = run(cfg)
    assert (result.status, result.scale) == ("finished", "smoke")
    assert {key: result.config["table"][key] for key in ("row", "column")} == {"row": result.row, "column": result.column}
    assert all(np.isfinite(value) for line in result.curve for value in line.values() if isinstance(value, float))
    return result


@pytest.mark.parametrize("table", [t for t in TABLES if t not in ("demo", "bansal_transfer")])
def test_the_first_and_the_last_cell_of_every_table_train(table, configure, monkeypatch):
    expanded = sweep(configure(f"table={table}", hydra=True))
    # K-means on 50,000 images is no matter of seconds.
    fewer = ["dataset.num_labels=100", "dataset.num_unlabelled=200"] if table.startswith("srikanth") else []
    for overrides in {expanded[0], expanded[-1]}:
        smoke(configure, monkeypatch, f"table={table}", *overrides, *fewer)


@pytest.mark.parametrize("number", [0, -1])
def test_cells_on_svhn_train_from_its_official_files(number, configure, monkeypatch, tmp_path):
    """Nothing is put in the place of the archive; it is small, and holds no picture of a house number."""
    make_svhn(tmp_path / "svhn", monkeypatch, random_images(40, 10), random_images(20, 10))
    overrides = sweep(configure("table=balestriero_2", hydra=True))[number]
    cfg = compose_cell(configure, "scale=smoke", "table=balestriero_2", *overrides, "dataset.num_labels=10")
    cfg.dataset.path, cfg.dataset.num_unlabelled = str(tmp_path / "svhn"), 10
    result = run(cfg)
    assert result.status == "finished"
    assert (result.data["classes"], result.data["labelled"], result.data["unlabelled"]) == (10, 10, 10)


def test_imagenet_from_its_tree_to_a_record(configure, tmp_path):
    """Two classes of six images, five of which are drawn; stored at 64 pixels, trained on crops of 48."""
    for part, count in (("train", 6), ("val", 2)):
        for wnid in ("n01440764", "n01443537"):
            (tmp_path / part / wnid).mkdir(parents=True)
            for number in range(count):
                pixels = random_images(1, 1, size=70, seed=number).images[0]
                (tmp_path / part / wnid / f"{wnid}_{number}.JPEG").write_bytes(png(pixels))
    few = ["dataset.num_labels=4", "dataset.num_unlabelled=6", "dataset.train_per_class=5", "dataset.image_size=64"]
    few += ["views.crop=48", "batch.size=4", "epochs=1", "model=densenet121", "method=entropy", "method.alpha=0.8"]
    result = run(configure("dataset=imagenet_64k_200k", f"dataset.path={tmp_path}", *few))
    assert result.status == "finished"
    assert (result.data["labelled"], result.data["unlabelled"], result.data["test_images"]) == (4, 6, 4)
    assert len(result.data["files"]) == 64


@pytest.mark.parametrize("row", ["CNN, lambda", "Wide Resnet, lambda", "Deep Resnet, Gamma", "Sigmoid CNN, lambda"])
def test_the_inversion_networks_train_at_full_width(row, configure, monkeypatch):
    size = ["scale.settings=paper", "scale.max_batch=4", "scale.max_steps=1"]
    smoke(configure, monkeypatch, "table=balestriero_3", f"table.row='{row}'", *size)


def test_the_transfer_table_starts_from_the_runs_of_another(configure, monkeypatch, tmp_path):
    for row in ("unsupervised losses", "with supervision"):
        smoke(configure, monkeypatch, "table=bansal_pretrain", f"table.row='{row}'")
    first, probe, tuned = (
        smoke(configure, monkeypatch, "table=bansal_transfer", f"table.row='{row}'", f"table.column='{column}'")
        for row, column in (
            ("random", "fine-tuning"),
            ("unsupervised losses", "linear probe"),
            ("with supervision", "fine-tuning"),
        )
    )
    assert "init_from" not in first.decisions
    assert "a linear probe on its frozen features" in probe.decisions["init_from"]
    assert "all weights trained on" in tuned.decisions["init_from"]
    assert len({r.fingerprint for r in (first, probe, tuned)}) == 3
