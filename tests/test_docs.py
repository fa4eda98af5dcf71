"""The documentation: its commands and links are good, it builds, and what is added to it is right."""

import importlib.util
import math
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from textwrap import indent
from types import SimpleNamespace

import pytest
import torch
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

from fewlabels.config.compose import composed
from fewlabels.config.reference import Key
from fewlabels.config.validate import check as check_config
from fewlabels.methods.base import ParameterGroup
from fewlabels.report.collect import Results, read_records
from fewlabels.report.spec.definitions import check_baselines, read_definition
from fewlabels.system.paths import conf_dir
from tests.methods.helpers import built, context, make_batch, model

ROOT = Path(__file__).parents[1]
PUBLISHED = ROOT / "outputs" / "published"
pytestmark = pytest.mark.skipif(not PUBLISHED.exists(), reason="a source distribution has no records")
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
METHODS = sorted(file.stem for file in (conf_dir() / "method").glob("*.yaml"))


@pytest.fixture(scope="module")
def hooks():
    spec = importlib.util.spec_from_file_location("docs_hooks", ROOT / "scripts" / "docs_hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def commands():
    """Every training command of the README and of the documentation, as it stands there."""
    for page in [ROOT / "README.md", *PAGES]:
        for block in re.findall(r"```(?:bash)?\n(.*?)```", page.read_text(), re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                if line.startswith("python -m fewlabels.train "):
                    yield pytest.param(shlex.split(line, comments=True)[3:], id=f"{page.name}: {line[26:80].strip()}")


@pytest.mark.parametrize("words", list(commands()))
def test_the_commands_compose_and_say_how_long_they_train(words):
    if words == ["--help"]:
        return
    parsed = OverridesParser.create().parse_overrides([word for word in words if word != "-m"])
    first = [
        f"{each.get_key_element()}={next(iter(each.sweep_string_iterator()))}"
        if each.is_sweep_override()
        else each.input_line
        for each in parsed
    ]
    check_config(composed(*first))
    keys = {each.key_or_group for each in parsed}
    assert keys & {"epochs", "steps", "scale"}, "a method's own length may be days"


def test_the_readme_has_a_line_for_each_method_and_is_short():
    text = (ROOT / "README.md").read_text()
    assert re.findall(r"\(docs/methods/(\w+)\.md\)[^|]*\| `(\w+)` \|", text) == [
        (name, name) for name in re.findall(r"\(docs/methods/(\w+)\.md\)", text)
    ]
    assert sorted(re.findall(r"\(docs/methods/(\w+)\.md\)", text)) == METHODS
    assert len(text.splitlines()) <= 150
    for link in re.findall(r"\]\(([^)#]+)", text):
        assert (ROOT / link).is_file(), link


def test_each_method_has_a_page():
    assert sorted(page.stem for page in (DOCS / "methods").glob("*.md") if page.stem != "index") == METHODS


def test_the_site_builds_without_a_warning_and_fetches_nothing(tmp_path):
    pytest.importorskip("mkdocs")
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    for page in tmp_path.rglob("*.html"):
        text = page.read_text()
        assert not re.search(
            r"(<script|<img|<iframe)[^>]*src=\"?(https?:)?//|<link[^>]*stylesheet[^>]*href=\"?(https?:)?//", text
        ), page
        assert "arithmatex" not in text
    overview = (tmp_path / "methods" / "index.html").read_text()
    assert all(f'href="{name}.html"' in overview for name in METHODS)


def test_a_broken_link_or_anchor_fails_the_build(tmp_path):
    pytest.importorskip("mkdocs")
    settings = yaml.load((ROOT / "mkdocs.yml").read_text(), yaml.SafeLoader)
    assert settings["strict"]
    assert set(settings["validation"]["links"].values()) == {"warn"}
    (tmp_path / "docs").mkdir()
    kept = {key: settings[key] for key in ("site_name", "strict", "validation")}
    (tmp_path / "mkdocs.yml").write_text(yaml.safe_dump(kept))
    for link, code in (("index.md#here", 0), ("index.md#gone", 1), ("gone.md", 1), ("/index.md", 1)):
        (tmp_path / "docs" / "index.md").write_text(f"# Here\n\n[link]({link})\n")
        done = subprocess.run([sys.executable, "-m", "mkdocs", "build"], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == code, (link, done.stderr)


def meta(name):
    return yaml.safe_load((DOCS / "methods" / f"{name}.md").read_text().split("---")[1])


@pytest.mark.parametrize("name", METHODS)
def test_a_method_s_page_gets_its_options_its_decisions_and_its_results(hooks, name):
    text = "\n".join(hooks.sections(name, meta(name)))
    file = yaml.safe_load((conf_dir() / "method" / f"{name}.yaml").read_text())
    assert all(f"`{key}`" in text for key in file["method"] if key != "_target_")
    assert all(f"- `{key}`" in text for key in file.get("decisions", {}))
    assert "$" not in text  # all is resolved
    ran = any(r.config["method"]["_target_"] == file["method"]["_target_"] for r in read_records(PUBLISHED))
    assert (hooks.NOTHING in text) == (not ran)


def test_the_overview_says_of_each_method_what_it_needs_and_where_it_was_run(hooks):
    class Config:
        nav = [{"Methods": ["methods/index.md", {"Some": ["methods/alphamatch.md", "methods/vat.md"]}]}]

    assert hooks.overview(Config).splitlines()[2:] == [
        "| **Some** | | | | |",
        "| [AlphaMatch](alphamatch.md)<br>`alphamatch` | Gong et al. 2021 | weak, 4 strong | average of the weights | "
        + hooks.where("alphamatch")
        + " |",
        "| [Virtual adversarial training](vat.md)<br>`vat` | Miyato et al. 2018; Alshami and Arya, task 2 | weak | "
        "extra forward and backward passes | [proxy scale: `alshami_2`](vat.md#how-it-did) |",
    ]


def test_the_benchmark_s_numbers_are_the_records_own(hooks, monkeypatch):
    table = hooks.load_definitions(conf_dir())["benchmark"]
    runs = [
        SimpleNamespace(status="finished", table="benchmark", scale="proxy", row="uda", column=column, seed=seed)
        for column in ("40 labels", "250 labels")
        for seed in range(3)
    ]
    for run in runs:
        run.metrics = {"test_error": (50.0 if run.column == "40 labels" else 30.0) + run.seed}
        run.config = {"method": {"_target_": "fewlabels.methods.uda.UDA"}, "seed": run.seed, "dataset": {}}
        run.data, run.code, run.environment, run.origin, run.starts, run.fingerprint = {}, {}, {}, None, [], f"{run.seed}"
        run.decisions = {}
    monkeypatch.setattr(hooks, "_published", lambda: (Results(runs), {"benchmark": table}))
    hooks._runs.cache_clear()
    text = "proxy scale: 40 labels: 51.00 ± 1.00 (n = 3); 250 labels: 31.00 ± 1.00 (n = 3)"
    assert hooks.where("uda") == f"[{text}](uda.md#how-it-did)"
    assert "| uda | 40 labels | 51.00 ± 1.00 (n = 3) | 8.01 ± 1.34 |" in hooks.results("uda")
    assert "51.00 ± 1.00 (n = 3)" in hooks.benchmark()
    hooks._runs.cache_clear()
    monkeypatch.setattr(hooks, "_published", lambda: (Results([]), {"benchmark": table}))
    assert (hooks.where("uda"), hooks.benchmark()) == ("not run yet", "")
    hooks._runs.cache_clear()


def test_a_variant_s_decisions_are_told_beside_the_default_s(hooks):
    text = next(iter(hooks.sections("kmeans_fixmatch", meta("kmeans_fixmatch"))))
    assert "- `kmeans_fixmatch.variant`: the method of the text's formulas" in text
    assert "- `kmeans_fixmatch.variant` (`method.variant=as_published`): as the notebook computes it" in text


def test_an_option_that_nothing_describes_is_an_error(hooks, monkeypatch):
    monkeypatch.setattr(hooks, "class_keys", lambda group, cls: [Key("method.weight", "0 or more", 1.0, "")])
    with pytest.raises(ValueError, match="the docstring of CoMatch does not say what weight is"):
        list(hooks.sections("comatch", {}))


def test_results_are_those_of_the_records(hooks):
    assert "| 0 | as_published | 43.14 / 44.88 (n = 2) | 45.51 |" in hooks.results("kmeans_fixmatch")
    assert "| baseline | top-1 | 25.50 ± 0.17 (n = 3) | 42.04 |" in hooks.results("supervised")


def test_equations_become_mathml_and_an_unknown_command_is_an_error(hooks):
    shown = hooks.on_page_content('a <span class="arithmatex">\\(x &lt; y\\)</span> b', None, None, None)
    assert re.fullmatch(r"a <math .*<mi>x</mi><mo>&#x0003C;</mo><mi>y</mi>.*</math> b", shown)
    block = hooks.on_page_content('<div class="arithmatex">\\[\n\\sum_{i} x\n\\]</div>', None, None, None)
    assert block.startswith('<div class="equation"><math')
    assert "<munder>" in block
    with pytest.raises(ValueError, match="does not know"):
        hooks.on_page_content('<span class="arithmatex">\\(\\nosuch x\\)</span>', None, None, None)


def test_the_methods_of_the_documentation_train_as_they_stand():
    text = (DOCS / "adding-a-method.md").read_text()
    smallest, _, _, _, _, adversarial = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names = {"__name__": "mine"}
    exec(smallest, names)
    for labelled in (0, 8):
        network, batch = model(), make_batch(labelled)
        output = names["Mine"]().step(context(network), batch)
        output.loss.backward()
        assert output.terms["consistency"] > 0
        assert next(network.parameters()).grad.isfinite().all()
    names |= {"torch": torch, "nn": torch.nn, "math": math, "ParameterGroup": ParameterGroup}
    exec(adversarial, names)
    network, method = model(), built(names["Adversarial"]())
    trained = {"discriminator": network, "generator": method.generator}
    for phase, module in trained.items():
        method.step(context(network, phase=phase, generator=torch.Generator()), make_batch()).loss.backward()
        (group,) = method.parameter_groups(network, phase)
        assert [id(p) for p in group.parameters] == [id(p) for p in module.parameters()]
        assert all(p.grad.any() for p in group.parameters if p.ndim > 1)


@pytest.mark.parametrize("node", ["claims", "figures"])
def test_the_entries_of_a_table_of_one_s_own_are_what_a_table_may_hold(node, tmp_path):
    text = (DOCS / "adding-a-table.md").read_text()
    (block,) = (b for b in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if b.startswith(node))
    head = "id: own\ntitle: T\nrows: [a, b, c, row]\ncolumns: ['8000', b]\nmetrics: {test_accuracy: x, test_error: y}\n"
    head += "quoted: [{row: GAN, values: {'8000': '8.11 ± 1.3'}}]\n"
    file = tmp_path / "own.yaml"
    file.write_text("table:\n" + indent(head + block, "  "))
    table = read_definition(file)
    assert len(getattr(table, node)) > 4
    check_baselines({"own": table, "other": table})
