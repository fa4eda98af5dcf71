"""Labels for new images, from the command line."""

import base64
import csv
import html
import io
import json
import math
import os
import re
import sys
import tarfile
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from fewlabels import predict
from fewlabels.config.compose import composed
from fewlabels.data.images import ImageSet
from fewlabels.runs.trained import load_run
from fewlabels.train import run
from tests.conftest import png, random_images, write_image_tar
from tests.launch import preloaded
from tests.training.test_calibration import grid_search

CLASSES = ("ant", "bee", "cat")
UNCALIBRATED = (
    "the confidences are not calibrated: this run has no temperature, which validation images give (dataset.num_validation) "
    "where the network mistakes some of them"
)


def trained_run(root, train, *more):
    """The folder of a run of images of three classes."""
    write_image_tar(root / "set.tar.gz", train, random_images(6, 3, size=8, seed=1), CLASSES)
    cfg = composed(
        *("dataset=folder", f"dataset.path={root / 'set.tar.gz'}", "dataset.num_labels=30", "dataset.image_size=8"),
        *("method=supervised", "model=simple_cnn", "steps=40", "batch.size=10", f"cache_dir={root / 'cache'}"),
        *("tracking=quiet", "views.flip=false", "views.padding=0", "hardware.precision=fp32"),
        f"output_root={root / 'out'}",
        *more,
    )
    run(cfg)
    (found,) = (root / "out" / "runs").iterdir()
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run's, of images that are easy to learn."""
    return trained_run(tmp_path_factory.mktemp("trained"), random_images(30, 3, size=8))


@pytest.fixture(scope="module")
def validated(tmp_path_factory):
    """A run's with validation images, a third of them of a wrong class."""
    train = random_images(120, 3, size=8)
    labels = np.where(np.arange(120) % 9 < 3, (train.labels + 1) % 3, train.labels)
    more = [
        "dataset.num_labels=120",
        "dataset.num_validation=60",
        "optim.lr=0.02",
        "epochs=2",
        "steps=null",
        "batch.steps=30",
    ]
    return trained_run(tmp_path_factory.mktemp("validated"), ImageSet(train.images, labels), *more)


@pytest.fixture
def photos(tmp_path):
    """Twelve images at two depths, of the classes in turn, and a file that is none."""
    new = random_images(12, 3, size=8, seed=2)
    for number, image in enumerate(new.images):
        place = tmp_path / "photos" / ("deep/er" if number % 2 else ".") / f"{number:02d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(png(image))
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    return tmp_path / "photos", new


@pytest.fixture
def predicted(monkeypatch, capsys):
    """``predicted(folder, "photos", "--to", "new.csv")``: what the command leaves."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["fewlabels-predict", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            predict.main()
        out, err = capsys.readouterr()
        return SimpleNamespace(returncode=end.value.code, stdout=out, stderr=err)

    return call


@pytest.fixture
def label(predicted):
    """The lines of the CSV that is printed."""

    def call(*arguments):
        result = predicted(*arguments)
        assert (result.returncode, result.stderr) == (0, f"{UNCALIBRATED}\n")
        return list(csv.DictReader(io.StringIO(result.stdout)))

    return call


def test_the_command_itself(folder, photos):
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    line = [str(folder), str(photos[0] / "00.png"), str(photos[0] / "nothing.png")]
    result = preloaded.run("fewlabels.predict", *line, folder=folder, environment=environment)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(f"fewlabels: there is no {photos[0] / 'nothing.png'}: ")


def test_a_folder_its_archive_and_its_files_have_the_labels_that_the_network_gives(label, folder, photos, tmp_path):
    place, new = photos
    lines = label(folder, place, "--top", "2")
    assert [line["file"] for line in lines] == sorted(str(path) for path in place.rglob("*.png"))
    number = [int(line["file"][-6:-4]) for line in lines]
    assert [line["label"] for line in lines] == [CLASSES[new.labels[i]] for i in number]
    trained = load_run(folder)
    with torch.inference_mode():
        shares = trained.network(trained.preprocess(torch.from_numpy(new.images[number]))).softmax(dim=1)
    best, order = shares.sort(dim=1, descending=True)
    for line, values, classes in zip(lines, best, order, strict=True):
        assert float(line["confidence"]) == pytest.approx(values[0].item(), abs=1e-4)  # as many digits as there are
        assert line["label_2"] == CLASSES[classes[1]]
        assert line["error"] == ""
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for path in sorted(place.rglob("*.png")):
            archive.write(path, path.relative_to(place))
    packed = label(folder, tmp_path / "photos.zip", "--top", "2")
    assert [line["file"] for line in packed] == [
        line["file"].replace(str(place), str(tmp_path / "photos.zip")) for line in lines
    ]
    assert [line["label"] for line in packed] == [line["label"] for line in lines]
    single = label(folder, *(line["file"] for line in lines[:2]))
    assert [(line["file"], line["label"]) for line in single] == [(line["file"], line["label"]) for line in lines[:2]]


def test_a_file_that_is_named_is_read_and_nothing_beside_it(label, folder, tmp_path, monkeypatch):
    """Hidden files too; the folder around it may be as large as a disk."""
    monkeypatch.setattr("fewlabels.data.files.archives.tree_files", None)
    (tmp_path / ".hidden").write_bytes(png(random_images(1, 3, size=8, seed=4).images[0]))
    (line,) = label(folder, tmp_path / ".hidden")
    assert (line["file"], line["label"], line["error"]) == (str(tmp_path / ".hidden"), "ant", "")


def test_a_damaged_file_is_named_and_the_others_have_labels(predicted, folder, photos, tmp_path):
    place, _ = photos
    (place / "05b.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    result = predicted(folder, place, "--to", tmp_path / "new.csv")
    assert result.returncode == 0
    assert result.stderr.splitlines() == [
        UNCALIBRATED,
        f"fewlabels: 1 of 13 files could not be read and have no label: {place / '05b.png'}",
    ]
    assert result.stdout.strip() == f"12 images labelled: ant (4), bee (4), cat (4); written to {tmp_path / 'new.csv'}"
    lines = list(csv.DictReader((tmp_path / "new.csv").read_text().splitlines()))
    (broken,) = [line for line in lines if line["error"]]
    assert (broken["label"], broken["confidence"]) == ("", "")
    assert broken["error"].startswith(f"cannot read the image 05b.png in {place}")


def test_images_of_any_size_are_brought_to_the_network_s(label, folder, tmp_path):
    large = np.kron(random_images(3, 3, size=8, seed=3).images, np.ones((1, 5, 5, 1), dtype=np.uint8))
    for number, image in enumerate(large):
        (tmp_path / f"{number}.png").write_bytes(png(np.pad(image, ((0, 0), (20, 20), (0, 0)))))
    assert [line["label"] for line in label(folder, tmp_path)] == list(CLASSES)


def test_batches_are_cut_and_put_together(folder, photos, monkeypatch):
    whole = list(predict.predictions(load_run(folder), [photos[0]], top=1))
    monkeypatch.setattr(predict, "prediction_batch", lambda *size: 5)
    parts = list(predict.predictions(load_run(folder), [photos[0]], top=1))
    assert [(each.file, each.labels) for each in parts] == [(each.file, each.labels) for each in whole]


def test_mistakes_are_one_line(predicted, folder, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.png").write_text("none")
    cases = {
        (tmp_path, tmp_path / "text.png"): "has no model.json: it is no folder of a run",
        (folder, tmp_path / "nowhere"): f"there is no {tmp_path / 'nowhere'}: name an image, a folder or an archive",
        (folder, tmp_path / "empty"): "empty holds no image of a format that is read here",
        (folder, tmp_path / "text.png", "--device", "abacus"): "--device abacus is no device of torch",
    }
    for arguments, said in cases.items():
        result = predicted(*arguments)
        assert result.returncode == 2
        assert len(result.stderr.strip().splitlines()) == 1, result.stderr
        assert said in result.stderr
    alone = predicted(folder, tmp_path / "text.png", "--to", tmp_path / "new.csv")
    assert alone.returncode == 2
    (line,) = csv.DictReader((tmp_path / "new.csv").read_text().splitlines())
    assert line["error"].startswith(f"cannot read the image text.png in {tmp_path}: it is no image of a format")
    assert "1 of 1 files could not be read" in alone.stderr


def test_the_sure_ones_are_labels_to_train_with(predicted, folder, photos, tmp_path, monkeypatch):
    place, _ = photos
    (place / "05b.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    labelled = [each for each in predict.predictions(load_run(folder), [place]) if each.labels]
    above = sorted(each.confidences[0] for each in labelled)[3]
    sure = {each.file: each.labels[0] for each in labelled if each.confidences[0] > above}
    assert 0 < len(sure) <= 8
    (tmp_path / "lists").mkdir()
    to = tmp_path / "lists" / "labels.csv"
    result = predicted(folder, place, "--above", above, "--to", to)
    assert result.returncode == 0
    assert result.stdout.startswith(f"{len(sure)} of 12 images surer than {above}: ")
    header, *lines = csv.reader(to.read_text().splitlines())
    assert header == ["file", "label"]
    assert {os.path.normpath(to.parent / file): label for file, label in lines} == sure
    assert all(file.startswith("../photos/") for file, _ in lines)  # from the labels' own folder
    monkeypatch.chdir(tmp_path)
    printed = predicted(folder, "photos", "--above", above)
    assert [line.split(",")[0] for line in printed.stdout.split()[1:]] == [file.removeprefix("../") for file, _ in lines]
    assert printed.stderr.splitlines()[-1].startswith(f"{len(sure)} of 12 images surer than")


def test_the_classes_that_no_image_is_surely_of_are_named(predicted, folder, photos):
    rest = photos[0] / "00.png", photos[0] / "06.png"  # ants
    said = predicted(folder, *rest, "--above", 0)
    assert said.stdout.splitlines()[1:] == [f"{os.path.relpath(path)},ant" for path in rest]
    (line,) = [line for line in said.stderr.splitlines() if "surely" in line]
    assert line == "fewlabels: no image is surely: bee, cat; to train with these labels alone would forget them"
    assert "surely" not in predicted(folder, photos[0], "--above", 0).stderr  # each class has one
    assert "surely" not in predicted(folder, photos[0], "--above", "0.9999999999").stderr  # no image at all


def test_the_sure_ones_of_an_archive_are_named_by_their_place_in_it(predicted, folder, photos, tmp_path):
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for path in sorted(photos[0].rglob("*.png")):
            archive.write(path, path.relative_to(photos[0]))
    lines = predicted(folder, tmp_path / "photos.zip", "--above", 0).stdout.split()
    assert lines[1] == "00.png,ant"
    assert lines[-1] == "deep/er/11.png,cat"
    assert len(lines) == 13
    both = predicted(folder, tmp_path / "photos.zip", photos[0], "--above", 0)
    assert both.returncode == 2
    assert f"by their place in it (dataset.path={tmp_path / 'photos.zip'}): label it by itself" in both.stderr


def test_where_none_is_sure_the_file_says_so(predicted, folder, photos, tmp_path):
    result = predicted(folder, photos[0], "--above", "0.9999999999", "--to", tmp_path / "labels.csv")
    assert result.stdout.strip() == f"0 of 12 images surer than 0.9999999999; written to {tmp_path / 'labels.csv'}"
    assert (tmp_path / "labels.csv").read_text() == "file,label\n"


@pytest.mark.parametrize("wrong", [["1"], ["-0.1"], ["sure"], ["nan"], ["0.5", "--top", "2"]], ids=str)
def test_a_confidence_that_is_none_is_refused(predicted, folder, photos, wrong):
    result = predicted(folder, photos[0], "--above", *wrong)
    assert result.returncode == 2
    said = "--above writes one label an image" if "--top" in wrong else f"{wrong[0]} is no number from 0 to below 1"
    assert said in result.stderr


def test_the_best_epoch_is_taken_unless_the_last_is_asked_for(predicted, folder, validated, photos):
    best = json.loads((validated / "model-best.json").read_text())["evaluation"]["epoch"]
    said = f"with the weights of epoch {best}, of the least validation loss; --weights last takes the last epoch's"
    default = predicted(validated, photos[0])
    assert default.stderr.splitlines() == [said]  # and the confidences are calibrated
    asked, last = (predicted(validated, photos[0], "--weights", which) for which in ("best", "last"))
    assert (asked.stdout, asked.stderr) == (default.stdout, "")
    assert last.stderr == ""
    assert last.stdout != default.stdout
    assert "has no model-best.json: the run had no validation" in predicted(folder, photos[0], "--weights", "best").stderr


@pytest.mark.parametrize("which", ["last", "best"])
def test_the_confidences_are_those_of_the_temperature_and_the_labels_stay(predicted, validated, photos, tmp_path, which):
    place, new = photos
    trained = load_run(validated, which)
    with torch.inference_mode():
        order = [int(path.stem) for path in sorted(place.rglob("*.png"))]
        logits = trained.network(trained.preprocess(torch.from_numpy(new.images[order]))).double()
    assert trained.temperature == pytest.approx(own_temperature(validated, trained), rel=1e-3)
    assert abs(trained.temperature - 1) > 0.01
    calibrated = list(csv.DictReader(io.StringIO(predicted(validated, place, "--weights", which).stdout)))
    for line, wanted in zip(calibrated, (logits / trained.temperature).softmax(dim=1), strict=True):
        assert float(line["confidence"]) == pytest.approx(wanted.max().item(), abs=1e-4)
    for path in validated.glob("model*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    name = tmp_path / ("model.json" if which == "last" else "model-best.json")
    described = json.loads(name.read_text())
    del described["temperature"]
    name.write_text(json.dumps(described))  # as an older version wrote it
    older = predicted(tmp_path, place, "--weights", which)
    assert older.stderr.splitlines() == [UNCALIBRATED]
    name.write_text(json.dumps(described | {"uncalibrated": "8 validation images are too few"}))
    few = predicted(tmp_path, place, "--weights", which)
    assert few.stderr.splitlines() == ["the confidences are not calibrated: 8 validation images are too few"]
    without = list(csv.DictReader(io.StringIO(older.stdout)))
    assert [line["label"] for line in without] == [line["label"] for line in calibrated]
    assert [line["confidence"] for line in without] != [line["confidence"] for line in calibrated]
    for wrong in (0.0, -1.0, math.inf, math.nan):
        name.write_text(json.dumps(described | {"temperature": wrong}))
        assert f"is damaged (temperature is {wrong})" in predicted(tmp_path, place, "--weights", which).stderr


def own_temperature(folder, trained):
    """From the images of the archive and the run's own split."""
    with tarfile.open(folder.parents[2] / "set.tar.gz") as archive:
        files = sorted((each for each in archive if each.name.startswith("train/")), key=lambda each: each.name)
        pixels = np.stack([np.array(Image.open(archive.extractfile(each))) for each in files])
    labels = torch.tensor([CLASSES.index(each.name.split("/")[1]) for each in files])
    index = torch.from_numpy(np.load(folder / "split.npz")["validation"])
    with torch.inference_mode():
        logits = trained.network(trained.preprocess(torch.from_numpy(pixels)[index]))
    return grid_search(logits, labels[index])


def cards(path):
    """Confidence, label, file and picture of each, in order."""
    page = path.read_text()
    assert page.count("src=") == page.count('src="data:image/jpeg;base64,')
    assert not re.search(r"href|url\(|@import|<script", page), "it names another file"
    for card in re.findall(r"<figure>(.*?)</figure>", page, re.DOTALL):
        label, share = re.search(r"<b>(.*?)</b> <span>(.*?) %</span>", card).groups()
        picture = re.search(r"base64,([^\"]+)", card)
        content = Image.open(io.BytesIO(base64.b64decode(picture[1]))) if picture else None
        yield float(share), html.unescape(label), html.unescape(re.search(r'"file">(.*?)<', card)[1]), content


def test_the_contact_sheet_shows_the_least_sure_first(predicted, validated, photos, tmp_path):
    place, new = photos
    (place / "<b>&.png").write_bytes(png(new.images[4]))
    (place / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    result = predicted(validated, place, "--html", tmp_path / "sheet.html")
    assert result.stdout.strip().endswith(f"; {tmp_path / 'sheet.html'} shows all")
    assert len(result.stdout.splitlines()) == 1
    found = {each.file: each for each in predict.predictions(load_run(validated), [place]) if each.labels}
    shown = list(cards(tmp_path / "sheet.html"))
    assert len(shown) == 13
    assert [share for share, *_ in shown] == sorted(share for share, *_ in shown)
    for share, label, file, picture in shown:
        assert label == found[file].labels[0]
        assert share == pytest.approx(100 * found[file].confidences[0], abs=0.1)
        assert share <= 100 * found[file].confidences[0]
        assert picture.size == (160, 160)
        mine = new.images[4 if "&" in file else int(file[-6:-4])].mean(axis=(0, 1))
        assert np.asarray(picture).mean(axis=(0, 1)) == pytest.approx(mine, abs=8), "another image's"
    page = (tmp_path / "sheet.html").read_text()
    assert "/&lt;b&gt;&amp;.png" in page
    assert "13 images labelled: " in page
    assert "; 1 of 14 files could not be read." in page
    assert "Confidences are calibrated" in page


def test_the_contact_sheet_says_how_many_it_leaves_out(predicted, folder, photos, tmp_path):
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for path in photos[0].rglob("*.png"):
            archive.write(path, path.relative_to(photos[0]))
    places = [tmp_path / "photos.zip", photos[0] / "00.png"]
    to = ["--html", tmp_path / "sheet.html", "--to", tmp_path / "new.csv", "--top-images", 5]
    result = predicted(folder, *places, *to)
    found = sorted(predict.predictions(load_run(folder), places), key=lambda each: each.confidences[0])
    assert [file for _, _, file, _ in cards(tmp_path / "sheet.html")] == [each.file for each in found[:5]]
    assert all(picture for *_, picture in cards(tmp_path / "sheet.html"))
    said = f"; written to {tmp_path / 'new.csv'}; {tmp_path / 'sheet.html'} shows the 5 least sure, and leaves out 8"
    assert result.stdout.strip().endswith(said)
    page = (tmp_path / "sheet.html").read_text()
    assert "8 surer images are left out." in page
    assert "Confidences are not calibrated." in page


def test_folders_that_are_not_there_are_made(predicted, folder, photos, tmp_path):
    to, html = tmp_path / "a" / "b" / "new.csv", tmp_path / "c" / "d" / "sheet.html"
    result = predicted(folder, photos[0] / "00.png", "--to", to, "--html", html)
    assert result.returncode == 0
    assert to.read_text().splitlines()[1].startswith(f"{photos[0] / '00.png'},ant,")
    assert len(list(cards(html))) == 1
    refused = predicted(folder, photos[0] / "00.png", "--to", to / "x.csv")
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"fewlabels: cannot make the folder {to}: File exists")


def test_a_picture_that_is_gone_by_then_is_said(predicted, folder, photos, tmp_path, monkeypatch):
    found = predict.pictures
    monkeypatch.setattr(predict, "pictures", lambda *given: dict(list(found(*given).items())[1:]))
    predicted(folder, photos[0], "--html", tmp_path / "sheet.html")
    assert [picture for *_, picture in cards(tmp_path / "sheet.html")].count(None) == 1
    assert (tmp_path / "sheet.html").read_text().count("cannot be read again") == 1
