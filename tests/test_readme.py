"""The README's numbers are the published records' own."""

import json
import math
import re
from collections import defaultdict
from pathlib import Path
from statistics import mean, stdev
from textwrap import indent

import pytest
import torch
from omegaconf import OmegaConf

from fewlabels.methods.base import ParameterGroup
from fewlabels.report.collect import Results, read_records
from fewlabels.report.spec.definitions import check_baselines, read_definition
from fewlabels.system.paths import conf_dir
from tests.methods.helpers import built, context, make_batch, model

ROOT = Path(__file__).parents[1]
PUBLISHED = ROOT / "outputs" / "published"
pytestmark = pytest.mark.skipif(not PUBLISHED.exists(), reason="a source distribution has no records")
HEADS = {"srikanth_1": "| experiment 1,", "srikanth_2": "| experiment 2,"}
VARIANTS = ("as_published", "corrected")


def printed(head):
    """The cells of a table of the README: row -> [reported, as published, corrected]."""
    lines = iter((ROOT / "README.md").read_text().splitlines())
    next(line for line in lines if line.startswith(head))
    next(lines)
    rows = {}
    for line in lines:
        if not line.startswith("|"):
            return rows
        row, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        rows[row.replace(",", "")] = cells
    raise AssertionError("the table has no end")


def test_the_methods_of_the_documentation_train_as_they_stand():
    text = (ROOT / "docs" / "adding-a-method.md").read_text()
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
    text = (ROOT / "README.md").read_text()
    (block,) = (b for b in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if b.startswith(node))
    head = "id: own\ntitle: T\nrows: [a, b, c, row]\ncolumns: ['8000', b]\nmetrics: {test_accuracy: x, test_error: y}\n"
    file = tmp_path / "own.yaml"
    file.write_text("table:\n" + indent(head + block, "  "))
    table = read_definition(file)
    assert len(getattr(table, node)) > 4
    check_baselines({"own": table, "other": table})


@pytest.mark.parametrize("table", HEADS)
def test_the_results_of_srikanth_s_tables(table):
    found = Results(read_records(PUBLISHED)).of_table(table)
    for row, (_, *cells) in printed(HEADS[table]).items():
        for variant, cell in zip(VARIANTS, cells, strict=True):
            values = [r.metrics["test_accuracy"] for r in found if (r.row, r.column, r.scale) == (row, variant, "paper")]
            number = re.match(r"[\d.]*", cell).group()
            assert number == (f"{mean(values):.2f}" if values else "")


def test_the_results_at_proxy_scale():
    lines = (ROOT / "README.md").read_text().splitlines()
    start = lines.index("| table | found |") + 2
    found = {line.split("`")[1]: line for line in lines[start : lines.index("", start)]}
    results = Results(read_records(PUBLISHED))
    assert set(found) == {r.table for r in results.records if r.scale == "proxy"} - {"bansal_pretrain"}
    for table, line in found.items():
        metric = next(iter(OmegaConf.load(conf_dir() / "table" / f"{table}.yaml").table.metrics))
        cells = defaultdict(list)
        for run in results.of_table(table, "proxy"):
            cells[run.row, run.column].append(run.metrics[metric])
        printed = re.findall(r"\d+\.\d(?: ± \d\.\d)?", line)
        for cell, values in cells.items():
            spread = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
            assert f"{mean(values):.1f}{spread}" in printed, (table, cell)


def test_the_speed_is_that_of_the_bench_at_the_commit_it_names():
    text = (ROOT / "README.md").read_text()
    commit = re.search(r"Medians of five rounds, and of their ratios; commit (\w+)", text).group(1)
    plain, compiled = (json.loads(file.read_text()) for file in sorted((PUBLISHED / "bench").glob(f"*-{commit}.json")))
    assert (plain["environment"]["compile"], compiled["environment"]["compile"]) == (False, True)
    assert not plain["environment"]["dirty"]
    cases = {case["case"]: case for case in plain["cases"]}
    rows = printed("| two cores of an AMD EPYC, bf16 |")
    assert len(rows) == len(cases)
    for row, (limit, *cells) in rows.items():
        case = next(case for name, case in cases.items() if row.startswith(name.replace(",", "")))
        rate, share, ratio = case["images_per_second"], case["ours_over_limit"], case["ours_over_per_image"]
        per_image = ["", ""] if ratio is None else [f"{rate['per image']:,.0f}", f"{ratio:.1f}"]
        assert limit == f"{rate['limit']:,.0f} images/s"
        assert cells == [f"{rate['ours']:,.0f}", f"{share:.2f}", *per_image]
    cnn, wrn, large = (f"{case['images_per_second']['ours']:,.0f}" for case in compiled["cases"])
    before = f"{cases['large CNN, lambda']['images_per_second']['ours']:,.0f}"
    said = " ".join(text.split())
    assert f"{large} images/s in the place of {before} (" in said
    assert f"{cnn} images/s for SimpleCNN, {wrn} for WRN-28-2" in said
