"""The same command comes back to the same run: whatever its code's place, and never to another's."""

import json
import os
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from omegaconf import OmegaConf

from fewlabels import train
from fewlabels.config.schema import Config
from fewlabels.config.validate import build, register
from fewlabels.methods.base import Method
from fewlabels.methods.fixmatch import FixMatch
from fewlabels.methods.supervised import Supervised
from fewlabels.report.collect import read_records
from fewlabels.runs import code_hash, record
from fewlabels.runs.fingerprint import identity
from fewlabels.search.run import run_search
from fewlabels.system.files import below
from fewlabels.system.stopping import Stopped, Stopper
from fewlabels.train import run
from fewlabels.training import build as build_module
from fewlabels.training import trainer as trainer_module
from fewlabels.types import StepOutput, UserError

PUBLISHED = Path(__file__).parents[2] / "outputs" / "published"
TINY = ["debug=tiny"]
SHORT = ["epochs=2", "batch.steps=3", "batch.size=16", "scale.max_test_images=40"]


def folder_of(tmp_path: Path, place: str = "out") -> Path:
    (folder,) = (tmp_path / place / "runs").iterdir()
    return folder


def changed(folder: Path, **values: object) -> None:
    written = json.loads((folder / "record.json").read_text())
    (folder / "record.json").write_text(json.dumps(written | values))


def test_every_published_record_is_found_by_its_command():
    """Fingerprint, table and folder, from the configuration, the data's digest and the split's alone."""
    register()
    records = {path: record.read(path) for path in sorted(PUBLISHED.rglob("record.json"))}
    assert len(records) >= 165
    names: dict[str, str] = {}
    for path, found in records.items():
        cfg = OmegaConf.merge(OmegaConf.structured(Config), found.config)
        data, split = SimpleNamespace(digest=found.data["digest"]), SimpleNamespace(digest=found.data["split"])
        origin = None
        if "init_from" in found.decisions:
            (begins,) = re.findall(r"starts from run (\w{8})", found.decisions["init_from"])
            (origin,) = {other.fingerprint for other in records.values() if other.fingerprint.startswith(begins)}
        network = json.dumps(found.config["model"], sort_keys=True)
        if network not in names:
            size, channels = (32, 32), len(found.config["dataset"]["mean"])
            names[network] = build("model", cfg.model, num_classes=10, image_size=size, channels=channels).name
        info = build_module.identify(cfg, data, split, SimpleNamespace(name=names[network]), origin)
        assert info.fingerprint == found.fingerprint, path
        assert (info.table, info.row, info.column) == (found.table, found.row, found.column)
        assert info.folder.relative_to(cfg.output_root) == path.parent.relative_to(PUBLISHED)


def moved(cls: type, monkeypatch: pytest.MonkeyPatch, place: str) -> str:
    """The class as if its module lay elsewhere; its path."""
    parts = place.split(".")
    for number in range(1, len(parts) + 1):
        name = ".".join(parts[:number])
        if name not in sys.modules:
            module = ModuleType(name)
            module.__path__ = []
            monkeypatch.setitem(sys.modules, name, module)
            if number > 1:
                monkeypatch.setattr(sys.modules[".".join(parts[: number - 1])], parts[number - 1], module, raising=False)
    setattr(sys.modules[place], cls.__name__, type(cls.__name__, (cls,), {"__module__": place, "__init__": cls.__init__}))
    return f"{place}.{cls.__name__}"


def test_a_moved_class_keeps_its_fingerprint_and_folder(configure, monkeypatch):
    def info(*overrides):
        cfg = configure(*overrides)
        data = SimpleNamespace(digest="data")
        return build_module.identify(cfg, data, SimpleNamespace(digest="split"), SimpleNamespace(name="simple_cnn"))

    where_it_was = info("method=fixmatch")
    target = moved(FixMatch, monkeypatch, "fewlabels.ssl.with_pseudo_labels")
    where_it_is = info("method=fixmatch", f"method._target_={target}")
    assert where_it_is.fingerprint == where_it_was.fingerprint
    assert where_it_is.folder == where_it_was.folder
    other = info("method=fixmatch", f"method._target_={moved(FixMatch, monkeypatch, 'elsewhere.methods')}")
    assert other.fingerprint != where_it_was.fingerprint  # somebody's own class of that name


class KindOfFixMatch(Method):
    def step(self, ctx, batch):
        return StepOutput(ctx.network(batch.labelled["weak"]).square().mean())


def test_a_class_of_one_s_own_is_known_by_its_name(configure, monkeypatch):
    def info(target):
        cfg = configure(f"method._target_={target}")
        data = SimpleNamespace(digest="data")
        return build_module.identify(cfg, data, SimpleNamespace(digest="split"), SimpleNamespace(name="simple_cnn"))

    here = info("tests.runs.test_fingerprint.KindOfFixMatch")
    assert here.name.startswith("kind_of_fix_match-simple_cnn-digits_50-s0-")
    there = info(moved(KindOfFixMatch, monkeypatch, "mine.deeper.down"))
    assert (there.fingerprint, there.name) == (here.fingerprint, here.name)
    assert identity(Supervised) == "fewlabels.methods.supervised.Supervised"  # of our own, the path of their first record


def other_code(monkeypatch: pytest.MonkeyPatch, name: str = "fewlabels.methods.supervised", value: str = "e" * 16) -> None:
    """As if the module had been edited."""
    hash_sources = code_hash.hash_sources

    def edited(*classes):
        code = hash_sources(*classes)
        return code_hash.Code(code.hashes | {name: value}, code.imports)

    monkeypatch.setattr("fewlabels.runs.code_hash.hash_sources", edited)
    monkeypatch.setattr("fewlabels.search.run.hash_sources", edited)


def test_a_finished_run_of_other_code_names_the_ways_on(configure, tmp_path, monkeypatch, capsys):
    first = run(configure(*TINY))
    folder = folder_of(tmp_path)
    assert "fewlabels.methods.supervised" in first.code
    other_code(monkeypatch)
    with pytest.raises(UserError, match=r"finished with other code \(methods/supervised.py was edited since\): rerun=true"):
        run(configure(*TINY))
    kept = run(configure(*TINY, "keep=true"))
    assert (kept.metrics, kept.code) == (first.metrics, first.code)
    assert "with other code (methods/supervised.py was edited since), which keep=true takes" in capsys.readouterr().err
    again = run(configure(*TINY, "rerun=true"))
    assert again.code["fewlabels.methods.supervised"] == "e" * 16
    assert again.fingerprint == first.fingerprint
    assert record.read(folder / "record-1.json").code == first.code
    assert {"checkpoint-1.pt", "metrics-1.jsonl", "record-1.json"} <= {path.name for path in folder.iterdir()}
    assert [found.code for found in read_records(tmp_path / "out")] == [again.code]
    assert run(configure(*TINY)).code == again.code  # finished already
    run(configure(*TINY, "rerun=true"))  # the same code: trained again all the same
    assert (folder / "record-2.json").exists()


def test_code_that_is_edited_while_images_are_decoded_is_not_taken_for_what_ran(configure, monkeypatch):
    opened = train.open_images

    def slowly(cfg):
        other_code(monkeypatch)  # the module was imported before, and that is what trains
        return opened(cfg)

    before = code_hash.hash_sources(Supervised).hashes["fewlabels.methods.supervised"]
    monkeypatch.setattr(train, "open_images", slowly)
    assert run(configure(*TINY)).code["fewlabels.methods.supervised"] == before


def test_a_run_without_code_is_exempt(configure, tmp_path, monkeypatch):
    first = run(configure(*TINY))
    changed(folder_of(tmp_path), code={})
    other_code(monkeypatch)
    assert run(configure(*TINY)).metrics == first.metrics


def stop_after(epochs: int, configure, monkeypatch, *overrides: str) -> None:
    """The run stops at its check before the epoch after these."""
    seen = []

    def check(self):
        seen.append(None)
        if len(seen) > 2 + 4 * epochs:
            raise Stopped("a test", 1)

    with monkeypatch.context() as patch:
        patch.setattr(Stopper, "check", check)
        with pytest.raises(Stopped):
            run(configure(*overrides))


def test_a_half_way_run_of_other_code_goes_on_only_when_told(configure, tmp_path, monkeypatch):
    stop_after(1, configure, monkeypatch, *SHORT)
    folder = folder_of(tmp_path)
    begun = record.read(folder / "record.json").code
    assert (folder / "checkpoint.pt").exists()
    with monkeypatch.context() as patch:
        other_code(patch)
        with pytest.raises(UserError, match=r"began with other code \(methods/supervised.py was edited since\): rerun=true"):
            run(configure(*SHORT))
        mixed = run(configure(*SHORT, "keep=true"))
        assert "changed in the middle (methods/supervised.py was edited since)" in mixed.decisions["code"]
        assert set(begun.values()) < set(mixed.code.values())
        with pytest.raises(UserError, match="finished with other code"):  # part of it ran the code before
            run(configure(*SHORT))
        assert run(configure(*SHORT, "keep=true")).code == mixed.code
    with pytest.raises(UserError, match="finished with other code"):
        run(configure(*SHORT))


def test_a_half_way_run_of_other_code_starts_over_when_told(configure, tmp_path, monkeypatch):
    stop_after(1, configure, monkeypatch, *SHORT)
    other_code(monkeypatch)
    again = run(configure(*SHORT, "rerun=true"))
    assert [line["epoch"] for line in again.curve] == [1, 2]
    assert len(again.starts) == 1
    assert "code" not in again.decisions
    assert record.read(folder_of(tmp_path) / "record-1.json").status == "running"


@pytest.mark.parametrize("before", ["finished", "half way", "nothing"])
def test_a_rerun_that_is_killed_goes_on_and_not_over(before, configure, tmp_path, monkeypatch):
    if before == "finished":
        run(configure(*SHORT))
    elif before == "half way":
        stop_after(1, configure, monkeypatch, *SHORT)
    begun = []
    begin = trainer_module.Trainer.begin_epoch
    monkeypatch.setattr(trainer_module.Trainer, "begin_epoch", lambda self: begun.append(self.epoch) or begin(self))
    stop_after(1, configure, monkeypatch, *SHORT, "rerun=true")
    assert begun == [0, 1][: len(begun)]
    begun.clear()
    result = run(configure(*SHORT))  # by any command
    assert result.config["rerun"]
    assert begun == [1]
    stop_after(1, configure, monkeypatch, *SHORT, "rerun=true")
    begun.clear()
    assert len(run(configure(*SHORT, "rerun=true")).starts) == 2
    assert begun == [1]
    kept = {path.name for path in folder_of(tmp_path).glob("record-*.json")}
    assert kept == ({"record-1.json"} if before == "nothing" else {"record-1.json", "record-2.json"})


def test_cells_of_a_sweep_that_were_trained_again_are_done(configure, tmp_path, capsys):
    """Else a sweep that is longer than its time budget never ends."""
    run(configure(*TINY))
    run(configure(*TINY, "rerun=true"), in_sweep=True)
    run(configure(*TINY, "rerun=true"), in_sweep=True)
    assert "finished already" in capsys.readouterr().err
    assert [path.name for path in folder_of(tmp_path).glob("record-*.json")] == ["record-1.json"]


@pytest.mark.parametrize("survives", range(6))
def test_a_kill_between_the_renames_loses_nothing(survives, configure, tmp_path, monkeypatch):
    first = run(configure(*TINY))
    folder, replace, renames = folder_of(tmp_path), os.replace, []

    def die(source, target):
        if Path(source).suffix != ".tmp":
            if len(renames) == survives:
                raise KeyboardInterrupt
            renames.append(source)
        replace(source, target)

    monkeypatch.setattr(os, "replace", die)
    if survives < 5:  # checkpoint, metrics, weights, their description, record
        with pytest.raises(KeyboardInterrupt):
            run(configure(*TINY, "rerun=true"))
        monkeypatch.setattr(os, "replace", replace)
    run(configure(*TINY, "rerun=true"))
    assert record.read(folder / "record-1.json").metrics == first.metrics
    assert (folder / "checkpoint-1.pt").exists()
    assert not list(folder.glob("*-2.*"))


def test_rerun_and_keep_exclude_each_other(configure):
    with pytest.raises(UserError, match="rerun=true trains again and keep=true takes what is there: give one of them"):
        run(configure(*TINY, "rerun=true", "keep=true"))


def test_a_search_whose_trials_ran_other_code_goes_on_only_when_told(configure, tmp_path, monkeypatch):
    space = ["search=grid", "search.space={optim.lr: [0.001, 0.002]}", "search.folds=2"]
    run_search(configure(*TINY, *space), run)
    other_code(monkeypatch)
    with pytest.raises(
        UserError, match=r"trials ran other code \(methods/supervised.py was edited since; .*keep=true goes on"
    ):
        run_search(configure(*TINY, *space), run)
    run_search(configure(*TINY, *space, "keep=true"), run)
    with pytest.raises(UserError, match="rerun=true is for runs, and this is a search: move .* away"):
        run_search(configure(*TINY, *space, "rerun=true"), run)


def test_eight_digits_of_a_fingerprint_are_not_enough(configure, tmp_path):
    first = run(configure(*TINY))
    changed(folder_of(tmp_path), fingerprint=first.fingerprint[:8] + "0" * 56)
    for wish in ([], ["rerun=true"], ["keep=true"]):
        with pytest.raises(
            UserError, match=rf"holds another run, of fingerprint {first.fingerprint[:8]}0{{8}}\.\.\. and not"
        ):
            run(configure(*TINY, *wish))


@pytest.mark.parametrize("part", ["..", ".", "", "a/b", "../x", "a\\b", "a\0b", "/etc"])
def test_no_part_of_a_path_leads_out_of_its_folder(part, tmp_path):
    with pytest.raises(UserError, match="is no name for a folder in"):
        below(tmp_path, "runs", part)
    with pytest.raises(UserError, match="is no name for a folder in"):
        below(tmp_path, part, "run")


def test_nothing_of_a_run_lies_outside_of_output_root(configure, tmp_path):
    cfg = configure(*TINY)
    data, split = SimpleNamespace(digest="d"), SimpleNamespace(digest="s")
    root = tmp_path / "out"

    def folder(cfg, name="simple_cnn"):
        return build_module.identify(cfg, data, split, SimpleNamespace(name=name)).folder

    assert folder(cfg, "hf-hub:timm/../../x").parent == root / "runs"
    assert folder(cfg, "hf-hub:timm/x").name.startswith("supervised-hf-hub_timm_x-digits_50")
    cfg.dataset.name = "../../x"
    with pytest.raises(UserError, match="dataset.name and table.id are plain names"):
        folder(cfg)
    cfg.dataset.name = "digits"
    cfg.table = {"id": "../elsewhere", "row": "a", "column": "b"}
    with pytest.raises(UserError, match="dataset.name and table.id are plain names"):
        folder(cfg)
