"""A finished run's network, used without its data set."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from fewlabels import __version__
from fewlabels.methods.base import Method
from fewlabels.models.base import Classifier
from fewlabels.models.inference import predict
from fewlabels.models.wide_resnet import WideResNet
from fewlabels.runs import trained
from fewlabels.runs.trained import load_run
from fewlabels.train import run
from fewlabels.training import evaluate as evaluate_module
from fewlabels.training.build import open_images
from fewlabels.training.trainer import Trainer
from fewlabels.types import StepOutput, UserError
from tests.conftest import random_images, write_image_tar

SHORT = ["epochs=2", "batch.steps=3", "batch.size=16", "scale.max_test_images=40"]
WRN = ["model=wide_resnet_28_2", "model.depth=10", "model.width=1"]
CLASSES = ("ant", "bee", "cat")


class OwnNetwork(Classifier):
    """The embedding of one network, and a last layer of the method's own."""

    def __init__(self, network: Classifier, head: nn.Module) -> None:
        super().__init__()
        self.name, self.network, self.head = "own", network, head

    def compute(self, images):
        out = self.network.activations(images)
        return out._replace(logits=self.head(out.embedding))

    def last_layer(self):
        return self.head


class OwnPredictor(Method):
    averaged = ("head",)

    def build(self, sizes):
        self.head = nn.Linear(sizes.embedding, sizes.classes)
        self.register_buffer("counts", sizes.class_counts)

    def step(self, ctx, batch):
        network = OwnNetwork(ctx.network, self.head)
        return StepOutput(F.cross_entropy(network(batch.labelled["weak"]), batch.labels))

    def predictor(self, ctx):
        return OwnNetwork(ctx.teacher, ctx.averaged["head"])


class Forgetful(OwnPredictor):
    """Its predictor holds a layer that is in no state_dict."""

    averaged = ()

    def predictor(self, ctx):
        network = OwnNetwork(ctx.network, nn.Identity())
        hidden = self.head
        network.compute = lambda images: (lambda out: out._replace(logits=hidden(out.embedding)))(
            ctx.network.activations(images)
        )
        return network


@pytest.fixture
def seen(monkeypatch):
    """What the last evaluation saw, and made of it."""
    last = {}

    def keeping(model, batches):
        last["images"] = list(batches)
        last["logits"], embeddings = predict(model, last["images"])
        return last["logits"], embeddings

    monkeypatch.setattr(evaluate_module, "predict", keeping)
    return last


@pytest.fixture
def folder_data(tmp_path):
    """Colour images of 40 x 40 pixels in an archive, with classes."""
    train, test = random_images(60, 3, size=40), random_images(12, 3, size=40, seed=1)
    write_image_tar(tmp_path / "mine.tar.gz", train, test, CLASSES)
    return [
        "dataset=folder", f"dataset.path={tmp_path / 'mine.tar.gz'}", "dataset.num_labels=30", "dataset.image_size=36",
        "dataset.mean=[0.5, 0.4, 0.3]", "dataset.std=[0.2, 0.3, 0.4]", "views.size=20", "views.crop=16",
    ]  # fmt: skip


def the_folder(root: Path) -> Path:
    (folder,) = (root / "out" / "runs").iterdir()
    return folder


RUNS = {
    "a network": ("network", WRN),
    "an average": ("average", [*WRN, "method=fixmatch", "optim=fixmatch", "optim.ema_decay=0.5"]),
    "a linear probe": ("network", [*WRN, "trainable=head"]),
    "of a contiguous layout": ("network", [*WRN, "hardware.channels_last=false"]),
    "with an attention module": (
        "network",
        ["model=attention_wide_resnet_28_2", "model.depth=10", "model.width=1", "method=attention_fixmatch"],
    ),
    "of a method of several phases": (
        "network",
        ["model=mnist_inversion_resnet", "method=inversion", "model.n=1", "model.k=2"],
    ),
    "with weight norm": ("network", ["model=conv13", "model.width=0.1", "views.size=16"]),
    "of timm": ("network", ["model=timm", "model.timm_name=test_resnet", "views.size=32"]),
    "with each image's own normalisation": ("network", [*WRN, "views.per_image=true"]),
    "a method's own": ("method", [*WRN, "method._target_=tests.runs.test_trained.OwnPredictor", "optim.ema_decay=0.5"]),
}


@pytest.mark.parametrize("kind", RUNS)
def test_the_network_predicts_the_same_bits_as_in_the_run(kind, configure, tmp_path, seen):
    weights, settings = RUNS[kind]
    cfg = configure(*SHORT, *settings)
    result = run(cfg)
    random = torch.get_rng_state()
    found = load_run(the_folder(tmp_path))
    assert torch.equal(torch.get_rng_state(), random)
    assert found.description["weights"] == weights
    assert not found.network.training
    logits, _ = predict(found.network, seen["images"])
    assert torch.equal(logits, seen["logits"])
    data = open_images(cfg)
    index = torch.from_numpy(np.linspace(0, len(data.test) - 1, 40).round().astype(np.int64))
    images = found.preprocess(torch.from_numpy(data.test.images)[index])
    assert torch.equal(images, torch.cat(seen["images"]))
    with torch.inference_mode():
        assert torch.equal(found.network(images), logits)
    labels = torch.from_numpy(data.test.labels)[index]
    assert 100 * (logits.argmax(1) == labels).float().mean().item() == pytest.approx(result.metrics["test_accuracy"])
    assert found.class_names == data.classes


def test_what_stands_in_the_description(configure, tmp_path, folder_data):
    result = run(configure(*SHORT, *WRN, *folder_data))
    folder = the_folder(tmp_path)
    found = json.loads((folder / "model.json").read_text())
    assert len(found.pop("sha256")) == 64
    target = "fewlabels.models.wide_resnet.WideResNet"
    assert found == {
        "format": 1,
        "fewlabels": __version__,
        "fingerprint": result.fingerprint,
        "weights": "network",
        "class_names": list(CLASSES),
        "model": {**result.config["model"], "_target_": target, "num_classes": 3, "image_size": [16, 16], "channels": 3},
        "method": result.config["method"],
        "method_sizes": None,
        "preprocessing": {
            "image_size": [36, 36], "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4], "size": 20, "crop": 16,
            "per_image": False,
        },
        "channels_last": True,
        "evaluation": {"epoch": 2, **{key: value for key, value in result.curve[-1].items() if key.startswith("test_")}},
    }  # fmt: skip
    network = WideResNet(3, (16, 16), 3, depth=10, width=1)  # with safetensors alone
    network.load_state_dict(load_file(folder / "model.safetensors"))


def test_an_image_file_in_a_new_process_without_the_data(configure, tmp_path, folder_data):
    run(configure(*SHORT, *WRN, *folder_data, "optim.lr=0.01", "epochs=4"))
    place = tmp_path / "elsewhere"
    place.mkdir()
    for name in ("model.safetensors", "model.json"):
        (the_folder(tmp_path) / name).rename(place / name)
    (tmp_path / "mine.tar.gz").unlink()
    image = random_images(3, 3, size=40, seed=1).images[2]
    Image.fromarray(image).save(tmp_path / "one.png")
    Image.fromarray(image).resize((72, 90), Image.Resampling.NEAREST).save(tmp_path / "large.png")
    script = (
        "import sys, json, torch; from fewlabels.runs.trained import load_run\n"
        "found = load_run(sys.argv[1])\n"
        "with torch.inference_mode():\n"
        "    logits = [found.network(found.preprocess(path))[0].tolist() for path in sys.argv[2:]]\n"
        "print(json.dumps([found.class_names, logits]))"
    )
    environment = {**os.environ, "FEWLABELS_CACHE": str(tmp_path / "no cache"), "OMP_NUM_THREADS": "1"}
    command = [
        sys.executable,
        "-W",
        "error",
        "-c",
        script,
        str(place),
        str(tmp_path / "one.png"),
        str(tmp_path / "large.png"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    names, (one, large) = json.loads(done.stdout)
    assert names == list(CLASSES)
    assert names[int(np.argmax(one))] == "cat"
    assert len(large) == 3
    assert not (tmp_path / "no cache").exists()


def test_images_that_do_not_fit_are_refused(configure, tmp_path):
    run(configure(*SHORT, *WRN))
    preprocess = load_run(the_folder(tmp_path)).preprocess
    assert preprocess(torch.zeros(2, 8, 8, 1, dtype=torch.uint8)).shape == (2, 1, 8, 8)
    for wrong in (torch.zeros(2, 8, 8, 1), torch.zeros(2, 9, 8, 1).byte(), torch.zeros(8, 8, 1).byte()):
        with pytest.raises(UserError, match=r"takes images as \[B, 8, 8, 1\], uint8, and these are \["):
            preprocess(wrong)
    with pytest.raises(UserError, match=r"cannot read the image .*none.png: No such file"):
        preprocess(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(UserError, match=r"cannot read the image text.png in .*: it is no image"):
        preprocess(tmp_path / "text.png")


@pytest.fixture
def finished(configure, tmp_path):
    run(configure(*SHORT, *WRN))
    return the_folder(tmp_path)


def described(folder, **changes):
    values = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({k: v for k, v in (values | changes).items() if v is not ...}))


def model(folder, **changes):
    described(folder, model=json.loads((folder / "model.json").read_text())["model"] | changes)


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def recorded(folder, **changes):
    path = folder / "record.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


FAULTS = {
    "no description": (lambda f: (f / "model.json").unlink(), "has no model.json: it is no folder of a run, or"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "cannot read .*model.safetensors: No such file"),
    "a flipped bit": (lambda f: flip(f / "model.safetensors", -1000), "model.safetensors is damaged, or another run's"),
    "half of the weights": (lambda f: os.truncate(f / "model.safetensors", 5000), "model.safetensors is damaged"),
    "half a description": (lambda f: os.truncate(f / "model.json", 100), "model.json is damaged"),
    "an empty description": (lambda f: os.truncate(f / "model.json", 0), "model.json is damaged"),
    "no bytes of text": (lambda f: flip_to(f / "model.json", b"\xff\xfe"), "model.json is damaged"),
    "a list": (lambda f: (f / "model.json").write_text("[]"), "model.json is damaged"),
    "another format": (lambda f: described(f, format=2), "model.json has format 2, not 1"),
    "a key too few": (lambda f: described(f, class_names=...), r"model.json is damaged \(class_names is missing or of"),
    "text for names": (lambda f: described(f, class_names="abc"), r"is damaged \(class_names is missing or of another type"),
    "two names of ten": (lambda f: described(f, class_names=["a", "b"]), r"is damaged \(2 names for 10 classes"),
    "no mean": (lambda f: described(f, preprocessing={"image_size": [8, 8]}), r"is damaged \(it has no 'mean'"),
    "two means": (
        lambda f: described(f, preprocessing={"image_size": [8, 8], "mean": [0, 0], "std": [1, 1]}),
        r"is damaged \(mean has 2 values and std 2, for 1 channels",
    ),
    "an unknown view": (
        lambda f: described(f, preprocessing={"image_size": [8, 8], "mean": [0], "std": [1], "blur": 2}),
        r"is damaged \(.*unexpected keyword argument 'blur'",
    ),
    "no number of classes": (lambda f: remove(f, "num_classes"), "it has no 'num_classes'"),
    "a class that is gone": (
        lambda f: model(f, _target_="no.such.Thing"),
        "model.json: model._target_=no.such.Thing cannot be imported",
    ),
    "no network's class": (lambda f: model(f, _target_="os.system"), "os.system is no model"),
    "another network": (lambda f: model(f, depth=16), r"does not fit the network in model.json \(.*Missing key"),
    "another width": (lambda f: model(f, width=2), r"does not fit the network in model.json \(.*size mismatch"),
    "an unknown argument": (lambda f: model(f, deep=3), r"model.json: model.deep: WideResNet takes"),
    "a value out of range": (lambda f: model(f, depth=-4), r"model.json: model.depth=-4 must be at least 10"),
    "a run that trains again": (lambda f: recorded(f, status="running"), r"this run has not finished \(running\)"),
    "another run's": (lambda f: recorded(f, fingerprint="0" * 64), "model.json is of another run than record.json"),
}  # fmt: skip


def flip_to(path, start):
    path.write_bytes(start + path.read_bytes())


def remove(folder, key):
    values = json.loads((folder / "model.json").read_text())
    del values["model"][key]
    (folder / "model.json").write_text(json.dumps(values))


@pytest.mark.parametrize("kind", FAULTS)
def test_what_cannot_be_loaded_is_one_line(kind, finished):
    load_run(finished)
    break_, message = FAULTS[kind]
    break_(finished)
    with pytest.raises(UserError, match=message) as error:
        load_run(finished)
    assert "\n" not in str(error.value)
    assert str(finished) in str(error.value)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="has no model.json: it is no folder of a run"):
        load_run(tmp_path / "nothing")


def test_tied_and_strided_tensors_are_kept(tmp_path):
    plain = torch.randn(8, 4, 3, 3)
    weights = {
        "a": plain,
        "tied": plain,
        "a part": plain[2:4],
        "channels last": plain.contiguous(memory_format=torch.channels_last),
        "with gaps": plain[::2, :, ::2],
        "expanded": torch.ones(1, 3).expand(4, 3),
        "half": plain.bfloat16(),
        "count": torch.tensor(3),
    }
    trained.save(tmp_path, weights, {"fingerprint": "me"})
    back = load_file(tmp_path / "model.safetensors")
    for name, tensor in weights.items():
        assert torch.equal(back[name], tensor), name
        assert back[name].dtype == tensor.dtype
    for value, message in (
        ("text", "odd is a str, and model.safetensors holds dense tensors alone"),
        (torch.eye(3).to_sparse(), "odd is a sparse Tensor, and model.safetensors holds dense tensors alone"),
        (torch.zeros(3, dtype=torch.complex128), r"model.safetensors cannot hold these weights \("),
    ):
        with pytest.raises(UserError, match=message):
            trained.save(tmp_path, {"odd": value}, {"fingerprint": "me"})


def test_a_finished_run_that_is_found_again_is_not_written(configure, tmp_path, finished):
    def times():
        return {path.name: path.stat().st_mtime_ns for path in finished.iterdir() if path.name != ".lock"}

    before = times()
    assert {"model.safetensors", "model.json"} <= before.keys()
    run(configure(*SHORT, *WRN))
    assert times() == before
    (finished / "model.json").unlink()  # as of a run made before these files were written
    (finished / "model.safetensors").unlink()
    run(configure(*SHORT, *WRN))
    assert not (finished / "model.json").exists()


def test_they_are_there_before_the_record_says_finished(configure, tmp_path, monkeypatch):
    def fails(*_):
        (folder,) = (tmp_path / "out" / "runs").iterdir()
        assert json.loads((folder / "record.json").read_text())["status"] == "running"
        assert (folder / "model.safetensors").exists()
        raise OSError(28, "No space left on device", str(folder / "model.json"))

    with monkeypatch.context() as patch:
        patch.setattr(trained, "write_text", fails)
        with pytest.raises(UserError, match="No space left on device"):
            run(configure(*SHORT, *WRN))
    folder = the_folder(tmp_path)
    assert json.loads((folder / "record.json").read_text())["status"] == "failed"
    with pytest.raises(UserError, match="has not finished"):
        load_run(folder)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_batch", None)  # nothing is trained again
        assert run(configure(*SHORT, *WRN)).status == "finished"
    assert load_run(folder).class_names[3] == "3"


def test_a_run_that_is_trained_again_keeps_its_first_weights_aside(configure, finished):
    first = (finished / "model.safetensors").read_bytes()
    run(configure(*SHORT, *WRN, "rerun=true"))
    assert {"model-1.safetensors", "model-1.json", "record-1.json"} <= {path.name for path in finished.iterdir()}
    assert (finished / "model-1.safetensors").read_bytes() == first
    assert (finished / "model.safetensors").read_bytes() == first  # the same bits
    load_run(finished)


def test_a_predictor_that_cannot_be_made_again_is_said(configure, tmp_path, capsys):
    result = run(configure(*SHORT, *WRN, "method._target_=tests.runs.test_trained.Forgetful"))
    assert result.status == "finished"
    folder = the_folder(tmp_path)
    said = [line for line in capsys.readouterr().err.splitlines() if "model.safetensors" in line]
    assert said == [
        f"fewlabels: {folder}: no model.safetensors is written: the method's predictor computes something else when it is "
        "made again from its state_dict"
    ]
    assert not list(folder.glob("model*"))


def test_bf16_changes_no_weight_that_is_kept(configure, tmp_path):
    """And of the method's own predictor, which is compared in full precision."""
    run(configure(*SHORT, *RUNS["a method's own"][1], "hardware.precision=bf16"))
    found = load_run(the_folder(tmp_path))
    assert {tensor.dtype for tensor in found.network.state_dict().values()} == {torch.float32, torch.int64}
    assert found.network.compute_dtype is None
    assert copy.deepcopy(found.network)(torch.zeros(1, 1, 8, 8)).dtype == torch.float32
