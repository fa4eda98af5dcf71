"""Runs that start from another run's weights."""

import json
from pathlib import Path

import pytest
import torch

from fewlabels.runs import checkpoint
from fewlabels.system.stopping import Stopped, Stopper
from fewlabels.train import run
from fewlabels.types import UserError
from tests.conftest import random_images, write_image_tar

SHORT = ["epochs=2", "batch.steps=3", "batch.size=16", "scale.max_test_images=40"]
WRN = ["model=wide_resnet_28_2", "model.depth=10", "model.width=1"]


def folder_of(root: Path, fingerprint: str) -> Path:
    (folder,) = (root / "runs").glob(f"*{fingerprint[:8]}")
    return folder


def weights(folder: Path, key: str = "model") -> dict[str, torch.Tensor]:
    return checkpoint.read(folder / "checkpoint.pt")[key]


@pytest.fixture
def source(configure, tmp_path):
    result = run(configure(*SHORT, *WRN, "method=entropy"))
    return folder_of(tmp_path / "out", result.fingerprint)


@pytest.fixture
def other_data(tmp_path):
    """Another data set, with three classes and grey images."""
    train, test = random_images(60, 3, size=8, channels=1), random_images(12, 3, size=8, channels=1, seed=1)
    write_image_tar(tmp_path / "mine.tar.gz", train, test, ("ant", "bee", "cat"))
    return ["dataset=folder", f"dataset.path={tmp_path / 'mine.tar.gz'}", "dataset.num_labels=30", "dataset.grey=true",
            "dataset.mean=[0.5]", "dataset.std=[0.5]"]  # fmt: skip


def test_a_linear_probe_changes_the_last_layer_alone(configure, tmp_path, source, other_data):
    result = run(configure(*SHORT, *WRN, *other_data, f"init_from={source}", "trainable=head"))
    before, after = weights(source), weights(folder_of(tmp_path / "out", result.fingerprint))
    assert after["head.weight"].shape == (3, 64)
    for name in before:
        if not name.startswith("head."):
            assert torch.equal(before[name], after[name]), name  # batch norm's statistics too
    assert "a linear probe" in result.decisions["init_from"]
    assert source.name in result.decisions["init_from"]


def test_a_probe_of_random_weights_has_the_data_s_statistics(configure, tmp_path, other_data):
    """Pretrained networks come with theirs: a random one that normalised by mean 0 and variance 1 would be no match."""
    result = run(configure(*SHORT, *WRN, *other_data, "trainable=head"))
    after = weights(folder_of(tmp_path / "out", result.fingerprint))
    first = {name: value for name, value in after.items() if name.startswith("blocks.0.bn1.running")}
    assert not torch.allclose(first["blocks.0.bn1.running_var"], torch.ones(16), atol=0.05)
    images = torch.from_numpy(random_images(60, 3, size=8, channels=1).images).float() / 255 / 0.25 - 2
    stem = torch.nn.functional.conv2d(images.permute(0, 3, 1, 2), after["stem.weight"], padding=1)
    torch.testing.assert_close(first["blocks.0.bn1.running_mean"], 2 * stem.mean(dim=(0, 2, 3)), rtol=0.5, atol=0.2)


def test_fine_tuning_changes_all_and_starts_from_the_weights(configure, tmp_path, source, other_data):
    tiny = "optim.lr=1e-6"
    result = run(configure(*SHORT, *WRN, *other_data, f"init_from={source}", tiny))
    before, after = weights(source), weights(folder_of(tmp_path / "out", result.fingerprint))
    torch.testing.assert_close(after["stem.weight"], before["stem.weight"], rtol=0, atol=1e-4)
    assert not torch.equal(after["stem.weight"], before["stem.weight"])


def test_the_same_data_keep_the_last_layer(configure, tmp_path, source):
    result = run(configure(*SHORT, *WRN, f"init_from={source}", "optim.lr=1e-6"))
    after = weights(folder_of(tmp_path / "out", result.fingerprint))
    torch.testing.assert_close(after["head.weight"], weights(source)["head.weight"], rtol=0, atol=1e-4)


def test_averaged_weights_are_the_ones_to_start_from(configure, tmp_path):
    first = run(configure(*SHORT, *WRN, "method=fixmatch", "optim=fixmatch", "optim.ema_decay=0.5"))
    source = folder_of(tmp_path / "out", first.fingerprint)
    result = run(configure(*SHORT, *WRN, f"init_from={source}", "optim.lr=1e-6"))
    after = weights(folder_of(tmp_path / "out", result.fingerprint))
    torch.testing.assert_close(after["stem.weight"], weights(source, "ema")["stem.weight"], rtol=0, atol=1e-4)
    assert not torch.allclose(after["stem.weight"], weights(source)["stem.weight"], rtol=0, atol=1e-4)


def test_the_fingerprint_follows_what_lies_there_not_where(configure, tmp_path, source):
    one = run(configure(*SHORT, *WRN, f"init_from={source}"))
    moved = source.rename(tmp_path / "moved")
    two = run(configure(*SHORT, *WRN, f"init_from={moved}", f"output_root={tmp_path / 'b'}"))
    none = run(configure(*SHORT, *WRN, f"output_root={tmp_path / 'c'}"))
    assert one.fingerprint == two.fingerprint != none.fingerprint


def test_a_run_that_has_begun_needs_no_more_of_its_source_than_the_record(configure, tmp_path, source, monkeypatch):
    """So its folder and the published records go on elsewhere."""

    def stop_at_the_second_epoch(self):
        if checks.pop():
            raise Stopped("a test", 1)

    def place(name):
        return configure(*SHORT, *WRN, f"init_from={source}", f"output_root={tmp_path / name}")

    whole = run(place("whole"))
    with monkeypatch.context() as patch:
        checks = [True, *[False] * 4]
        patch.setattr(Stopper, "check", stop_at_the_second_epoch)
        with pytest.raises(Stopped):
            run(place("pieces"))
    (source / "checkpoint.pt").unlink()
    pieces = run(place("pieces"))
    assert pieces.curve == whole.curve
    assert len(pieces.curve) == 2


def test_what_cannot_be_started_from(configure, tmp_path, source, other_data):
    with pytest.raises(UserError, match="is not the folder of a run: it has no record.json"):
        run(configure(*SHORT, *WRN, f"init_from={tmp_path}"))
    with pytest.raises(UserError, match=r"another network, .* is in one of the two alone"):
        run(configure(*SHORT, f"init_from={source}"))
    colour = ["dataset.grey=false", "dataset.mean=[0.5, 0.5, 0.5]", "dataset.std=[0.5, 0.5, 0.5]"]
    with pytest.raises(UserError, match=r"stem.weight has \[16, 1, 3, 3\] there and \[16, 3, 3, 3\] here"):
        run(configure(*SHORT, *WRN, *other_data, *colour, f"init_from={source}"))
    with pytest.raises(UserError, match=r"init_from is the folder of a run, or \{table, row, column\}"):
        run(configure(*SHORT, *WRN, "init_from={table: x}"))
    with pytest.raises(UserError, match="holds no finished run of a | b at paper scale with seed 0: run table=x first"):
        run(configure(*SHORT, *WRN, "init_from={table: x, row: a, column: b}"))
    (source / "checkpoint.pt").unlink()
    (source / "model.safetensors").unlink()
    with pytest.raises(UserError, match="has no checkpoint.pt and no model.safetensors: a record alone holds no weights"):
        run(configure(*SHORT, *WRN, f"init_from={source}"))


@pytest.mark.parametrize("average", [[], ["optim=fixmatch", "optim.ema_decay=0.5"]])
def test_the_exported_weights_do_in_the_place_of_the_checkpoint(average, configure, tmp_path):
    first = run(configure(*SHORT, *WRN, "method=fixmatch", *average))
    source = folder_of(tmp_path / "out", first.fingerprint)
    one = run(configure(*SHORT, *WRN, f"init_from={source}"))
    (source / "checkpoint.pt").unlink()
    other = run(configure(*SHORT, *WRN, f"init_from={source}", f"output_root={tmp_path / 'other'}"))
    assert other.curve == one.curve
    assert other.fingerprint == one.fingerprint


def test_exported_weights_that_are_refused(configure, tmp_path, source):
    def told():
        with pytest.raises(UserError) as error:
            run(configure(*SHORT, *WRN, f"init_from={source}"))
        return str(error.value)

    (source / "checkpoint.pt").unlink()
    description = json.loads((source / "model.json").read_text())
    for change, message in (
        ({"fingerprint": "0" * 64}, "model.json is of another run than record.json; start from another run"),
        ({"weights": "method"}, "model.safetensors is not the network's, but its method's own predictor"),
        ({"sha256": "0" * 64}, "model.safetensors is damaged, or another run's"),
    ):
        (source / "model.json").write_text(json.dumps(description | change))
        assert message in told()
    (source / "model.json").unlink()
    assert "has no model.json" in told()


def folder_set(tmp_path, name, classes):
    """A folder of images, in an archive, of these classes."""
    count = len(classes)
    train, test = random_images(20 * count, count, size=8, channels=1), random_images(4 * count, count, size=8, channels=1)
    write_image_tar(tmp_path / f"{name}.tar.gz", train, test, classes)
    return ["dataset=folder", f"dataset.path={tmp_path / name}.tar.gz", f"dataset.num_labels={10 * count}",
            "dataset.grey=true", "dataset.mean=[0.5]", "dataset.std=[0.5]", "optim.lr=1e-6"]  # fmt: skip


@pytest.mark.parametrize(
    ("classes", "kept"),
    [
        (("ant", "bee", "cat"), True),
        (("ant", "bee", "dog"), False),  # as many, and the set is called "folder" too
        (("ant", "bee", "cat", "dog"), False),
    ],
)
def test_between_folders_the_names_of_the_classes_decide(classes, kept, configure, tmp_path):
    first = run(configure(*SHORT, *WRN, *folder_set(tmp_path, "one", ("ant", "bee", "cat"))))
    assert first.data["class_names"] == ["ant", "bee", "cat"]
    source = folder_of(tmp_path / "out", first.fingerprint)
    other = folder_set(tmp_path, "two", classes)
    result = run(configure(*SHORT, *WRN, *other, "seed=1", f"init_from={source}"))
    head, old = (weights(folder)["head.weight"] for folder in (folder_of(tmp_path / "out", result.fingerprint), source))
    assert (head.shape == old.shape and torch.allclose(head, old, rtol=0, atol=1e-4)) == kept
    told = "its last layer is kept: the classes are the same" if kept else "the last layer is new: other classes"
    assert told in result.decisions["init_from"]


def test_a_record_without_names_keeps_a_named_set_s_head_alone(configure, tmp_path, source):
    def forget(folder):
        record = json.loads((folder / "record.json").read_text())
        del record["data"]["class_names"]
        (folder / "record.json").write_text(json.dumps(record))

    forget(source)
    result = run(configure(*SHORT, *WRN, f"init_from={source}", "optim.lr=1e-6"))
    after = weights(folder_of(tmp_path / "out", result.fingerprint))
    torch.testing.assert_close(after["head.weight"], weights(source)["head.weight"], rtol=0, atol=1e-4)
    mine = folder_set(tmp_path, "one", ("ant", "bee", "cat"))
    first = folder_of(tmp_path / "out", run(configure(*SHORT, *WRN, *mine)).fingerprint)
    forget(first)
    result = run(configure(*SHORT, *WRN, *mine, "seed=1", f"init_from={first}"))
    after = weights(folder_of(tmp_path / "out", result.fingerprint))
    assert not torch.allclose(after["head.weight"], weights(first)["head.weight"], rtol=0, atol=1e-3)
    assert "that run's record does not say that its classes are the same" in result.decisions["init_from"]
