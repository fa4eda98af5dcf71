"""The network elsewhere: ONNX, a program of torch.export, plain weights with a card, each against the run's own network."""

import dataclasses
import io
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from fewlabels import export
from fewlabels.config.compose import composed
from fewlabels.config.validate import register
from fewlabels.data.files.decode import Decoding, decode
from fewlabels.exported.network import ExportedNetwork, check, steps
from fewlabels.exported.weights import card
from fewlabels.runs import record
from fewlabels.runs.trained import load_run
from fewlabels.system.paths import conf_dir
from fewlabels.train import run
from fewlabels.types import UserError
from tests.conftest import QUICK
from tests.runs.test_trained import OwnNetwork

SHORT = ["epochs=1", "batch.steps=2", "batch.size=16", "scale.max_test_images=40", "method=supervised"]


def finished(root, *settings):
    run(composed(*QUICK, *SHORT, *settings, f"output_root={root / 'out'}", f"cache_dir={root / 'cache'}"))
    (folder,) = (root / "out" / "runs").iterdir()
    return folder


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Of our own network, on the digits; with validation images."""
    return finished(
        tmp_path_factory.mktemp("plain"), "dataset.num_labels=100", "dataset.num_validation=50", "optim.lr=0.003"
    )


@pytest.fixture(scope="module")
def of_timm(tmp_path_factory):
    return finished(tmp_path_factory.mktemp("timm"), "model=timm", "model.timm_name=test_resnet", "views.size=32")


@pytest.fixture
def exported(monkeypatch, capsys):
    """``exported(folder, "--onnx", "m.onnx")``: what the command says; it must succeed unless ``fails`` says otherwise."""

    def call(*arguments, fails=False):
        monkeypatch.setattr(sys, "argv", ["fewlabels-export", *map(str, arguments)])
        capsys.readouterr()
        if fails:
            with pytest.raises(SystemExit) as end:
                export.main()
            assert end.value.code == 2
            return capsys.readouterr().err
        export.main()
        out, err = capsys.readouterr()
        assert err == ""
        return out

    return call


def digits(count):
    """Images as bytes ``[count, 8, 8, 1]``, and as the exported networks take them."""
    pixels = torch.randint(0, 256, (count, 8, 8, 1), generator=torch.Generator().manual_seed(count), dtype=torch.uint8)
    return pixels, pixels.permute(0, 3, 1, 2).float() / 255


def wanted(trained, pixels):
    with torch.inference_mode():
        return trained.network(trained.preprocess(pixels))


def test_onnx_gives_the_same_labels_and_logits(exported, plain, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    said = exported(plain, "--onnx", tmp_path / "a" / "b" / "m.onnx")
    assert said == f"{tmp_path / 'a' / 'b' / 'm.onnx'}: the weights of the least validation loss (epoch 1)\n"
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["m.onnx"]
    trained = load_run(plain)
    session = onnxruntime.InferenceSession(tmp_path / "a" / "b" / "m.onnx", providers=["CPUExecutionProvider"])
    for count in (1, 7):
        pixels, images = digits(count)
        (logits,) = session.run(["logits"], {"images": images.numpy()})
        own = wanted(trained, pixels).numpy()
        assert np.abs(logits - own).max() < 1e-4
        assert (logits.argmax(axis=1) == own.argmax(axis=1)).all()
    inside = session.get_modelmeta().custom_metadata_map
    assert json.loads(inside["class_names"]) == list(trained.class_names)
    assert float(inside["temperature"]) == trained.temperature
    assert inside["fingerprint"] == trained.description["fingerprint"]


@pytest.mark.parametrize(("shape", "orientation", "size"), [((640, 480), 1, 32), ((40, 91), 6, 32), ((201, 30), 8, 16)])
def test_the_lines_in_the_documentation_take_the_run_s_pixels(tmp_path, monkeypatch, capsys, shape, orientation, size):
    page = Path(__file__).parents[1] / "docs" / "export.md"
    if not page.exists():
        pytest.skip("without the documentation")
    lines = next(
        block for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL) if "onnxruntime" in block
    )
    pixels = np.random.default_rng(0).integers(0, 256, (*shape[::-1], 3), dtype=np.uint8)
    photo, exif = io.BytesIO(), Image.Exif()
    exif[0x112] = orientation
    Image.fromarray(pixels).save(photo, "JPEG", exif=exif)
    (tmp_path / "cat.jpg").write_bytes(photo.getvalue())
    monkeypatch.chdir(tmp_path)
    seen = []
    session = SimpleNamespace(
        get_modelmeta=lambda: SimpleNamespace(custom_metadata_map={"class_names": '["cat", "dog"]'}),
        get_inputs=lambda: [SimpleNamespace(shape=["batch", 3, size, size])],
        run=lambda _, given: seen.append(given["images"]) or [np.array([[0.0, 1.0]])],
    )
    monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace(InferenceSession=lambda _: session))
    exec(lines, {})
    own = decode(photo.getvalue(), "cat.jpg", Decoding(size, False), tmp_path)
    assert seen[0].dtype == np.float32
    assert np.array_equal(seen[0], own.transpose(2, 0, 1)[None].astype(np.float32) / 255)
    assert capsys.readouterr().out == "dog\n"


def test_a_program_of_torch_gives_the_same_logits(exported, plain, tmp_path):
    said = exported(plain, "--pt2", tmp_path / "no" / "m.pt2", "--weights", "last")
    assert said == f"{tmp_path / 'no' / 'm.pt2'}: the weights of the last epoch (epoch 1)\n"
    files = {"fewlabels.json": ""}
    module = torch.export.load(tmp_path / "no" / "m.pt2", extra_files=files).module()
    trained = load_run(plain, "last")
    for count in (1, 7):
        pixels, images = digits(count)
        assert (module(images) - wanted(trained, pixels)).abs().max() < 1e-4
    assert json.loads(json.loads(files["fewlabels.json"])["class_names"]) == list(trained.class_names)


def code_in(text):
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    return block


def test_weights_of_timm_load_into_timm(exported, of_timm, tmp_path, monkeypatch):
    exported(of_timm, "--safetensors", tmp_path / "new" / "folder")
    monkeypatch.chdir(tmp_path / "new" / "folder")
    text = (tmp_path / "new" / "folder" / "README.md").read_text()
    assert "fewlabels" not in code_in(text)
    names = {}
    exec(code_in(text), names)
    trained = load_run(of_timm)
    pixels, _ = digits(5)
    with torch.inference_mode():
        logits = names["network"](trained.preprocess(pixels))
    assert (logits - wanted(trained, pixels)).abs().max() < 1e-5  # in another layout, with other roundings
    assert type(names["network"]).__module__.startswith("timm.")
    test = trained.description["evaluation"]["test_accuracy"]
    assert f"Of epoch 1, the last one:\n\n- {test:.2f} % of the test images" in text
    assert "scaled to 32 x 32 (bilinear, with antialiasing); grey, values from 0 to 1" in text
    assert "Data set digits: 50 labelled, " in text
    assert "timm_name: test_resnet" in text
    assert "are not calibrated" in text
    assert json.dumps(list(trained.class_names)) in text
    assert "## Licence\n\nNot stated" in text


def test_weights_that_timm_would_compute_otherwise_with_are_refused(exported, of_timm, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "fewlabels.exported.weights._timm_arguments", lambda _: ("test_resnet", {"num_classes": 10, "in_chans": 1})
    )
    exported(of_timm, "--safetensors", tmp_path / "right")
    monkeypatch.setattr(
        "fewlabels.exported.weights._timm_arguments",
        lambda _: ("test_resnet", {"num_classes": 10, "in_chans": 1, "act_layer": "silu"}),
    )
    assert "the exported network gives other logits" in exported(of_timm, "--safetensors", tmp_path / "wrong", fails=True)
    assert not (tmp_path / "wrong").exists()


def test_weights_of_our_own_network_say_so(exported, plain, tmp_path, monkeypatch):
    exported(plain, "--safetensors", tmp_path)
    monkeypatch.chdir(tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert "`fewlabels.models.simple_cnn.SimpleCNN` is no network of timm or torchvision: its code is needed" in text
    names = {}
    exec(code_in(text), names)
    trained = load_run(plain)
    pixels, _ = digits(5)
    with torch.inference_mode():
        assert torch.equal(names["network"](trained.preprocess(pixels)), wanted(trained, pixels))
    assert load_file("model.safetensors").keys() == trained.network.state_dict().keys()
    found = trained.description["evaluation"]
    assert f"% of the test images\n- {found['validation_accuracy']:.2f} % of the validation images" in text
    assert "The epoch was chosen by the validation images" in text
    assert f"`softmax(logits / {trained.temperature:.4f})`" in text


def test_the_card_of_older_and_of_stranger_networks(plain):
    trained = load_run(plain)
    described = {key: value for key, value in trained.description.items() if key not in ("evaluation", "temperature")}
    older = card(dataclasses.replace(trained, description=described), None)
    assert "Not known: an older fewlabels wrote these weights." in older
    assert "its data and its other settings are not known" in older
    assert "settings.yaml" not in older
    assert "The confidences, `softmax(logits)`, are not calibrated.\n" in older
    few = card(dataclasses.replace(trained, description=described | {"uncalibrated": "8 are too few"}), None)
    assert "The confidences, `softmax(logits)`, are not calibrated: 8 are too few.\n" in few
    own = OwnNetwork(trained.network, nn.Linear(100, 10))
    stranger = card(dataclasses.replace(trained, network=own), record.found(plain / "record.json"))
    assert "needs fewlabels and the run's own files: `fewlabels.runs.trained.load_run(folder)`" in stranger
    assert "```python" not in stranger


def test_the_settings_come_back_to_the_same_run(exported, plain, tmp_path):
    exported(plain, "--safetensors", tmp_path)
    assert "python -m fewlabels.train --config-dir . --config-name settings\n" in (tmp_path / "README.md").read_text()
    written = (tmp_path / "settings.yaml").read_text()
    assert str(plain.parents[2]) not in written  # no place on this machine
    register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        cfg = compose("settings", [f"hydra.searchpath=[file://{conf_dir()}]"], return_hydra_config=True)
    assert cfg.hydra.job.chdir is False
    del cfg.hydra
    cfg.output_root, cfg.cache_dir = str(plain.parents[1]), str(plain.parents[2] / "cache")
    before = (plain / "checkpoint.pt").stat().st_mtime_ns
    assert run(cfg).fingerprint == record.read(plain / "record.json").fingerprint
    assert (plain / "checkpoint.pt").stat().st_mtime_ns == before  # it had finished
    assert len(list(plain.parent.iterdir())) == 1


@pytest.mark.parametrize("per_image", [False, True])
def test_the_normalisation_is_inside(plain, per_image):
    trained = load_run(plain)
    views = dataclasses.replace(trained.preprocess.views, per_image=per_image, mean=(0.3,), std=(0.2,))
    trained = dataclasses.replace(trained, preprocess=dataclasses.replace(trained.preprocess, views=views))
    pixels, images = digits(4)
    with torch.inference_mode():
        assert (ExportedNetwork(trained)(images) - wanted(trained, pixels)).abs().max() < 1e-5
    assert steps(trained) == "the shorter side scaled to 8 (bicubic), the centre cut out; grey, values from 0 to 1"


def test_another_network_s_logits_are_refused(plain):
    trained = load_run(plain)
    own = ExportedNetwork(trained).eval()
    for added, good in ((1e-6, True), (1e-2, False), (torch.nan, False)):

        def other(images, added=added):
            with torch.inference_mode():
                return own(images) + added

        if good:
            check(trained, other)
        else:
            with pytest.raises(UserError, match="the exported network gives other logits"):
                check(trained, other)


def test_mistakes_are_one_line(exported, plain, tmp_path, monkeypatch):
    assert "say what to write: --onnx FILE, --pt2 FILE or --safetensors FOLDER" in exported(plain, fails=True)
    assert "has no model.json" in exported(tmp_path, "--pt2", tmp_path / "m.pt2", fails=True)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    said = exported(plain, "--onnx", tmp_path / "m.onnx", fails=True)
    assert said == "fewlabels: --onnx needs the package onnxruntime: pip install 'fewlabels[onnx]'\n"
    assert not list(tmp_path.iterdir())
