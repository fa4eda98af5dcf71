"""Records by hand, and the tables of two write-ups as they are printed."""

from __future__ import annotations

from pathlib import Path

from fewlabels.report.page import TEMPLATES
from fewlabels.report.spec.claims import HEADER, rule
from fewlabels.runs import record
from fewlabels.types import RunRecord

BALESTRIERO_1 = """
table:
  id: balestriero_1
  title: MNIST, 50 labels
  rows: ["Resnet2-32max, Gamma"]
  columns: ["50"]
  metrics: {test_accuracy: "test accuracy %"}
  reported:
    "Resnet2-32max, Gamma": {"50": {test_accuracy: 99.14}}
  quoted:
    - {row: "Improved GAN", values: {"50": "97.79 ± 1.36"}}
"""

BALESTRIERO_2 = """
table:
  id: balestriero_2
  title: SVHN
  rows:
    - "Large CNN, lambda"
    - "Deep Resnet, lambda"
    - "Wide Resnet, lambda"
    - "Large CNN, Gamma"
    - "Wide Resnet, Gamma"
    - "Deep Resnet, Gamma"
    - "Sigmoid Wide Resnet, lambda"
  columns: ["500", "1000"]
  metrics: {test_error: "test error %"}
  reported:
    "Large CNN, lambda": {"500": {test_error: 10.17}, "1000": {test_error: 7.20}}
    "Deep Resnet, lambda": {"500": {test_error: 11.08}, "1000": {test_error: 8.28}}
    "Wide Resnet, lambda": {"500": {test_error: 9.82, std: 1.5, runs: 12}, "1000": {test_error: 7.14, std: 0.3, runs: 12}}
    "Large CNN, Gamma": {"500": {test_error: 11.67}, "1000": {test_error: 9.51}}
    "Wide Resnet, Gamma": {"500": {test_error: 12.36}, "1000": {test_error: 10.17}}
    "Deep Resnet, Gamma": {"500": {test_error: 8.95}, "1000": {test_error: 11.27}}
    "Sigmoid Wide Resnet, lambda":
      "500": {test_error: 20.35, std: 6.2, runs: 4}
      "1000": {test_error: 7.78, std: 0.2, runs: 4}
  derived:
    "mean, lambda":
      mean_of: ["Large CNN, lambda", "Deep Resnet, lambda", "Wide Resnet, lambda"]
      reported: {"500": {test_error: 10.35, std: 0.53}, "1000": {test_error: 7.54, std: 0.52}}
    "mean, Gamma":
      mean_of: ["Large CNN, Gamma", "Wide Resnet, Gamma", "Deep Resnet, Gamma"]
      reported: {"500": {test_error: 10.99, std: 1.80}, "1000": {test_error: 10.32, std: 0.89}}
  quoted:
    - {row: "Improved GAN", values: {"500": "18.44 ± 4.8", "1000": "8.11 ± 1.3"}}
    - {row: "Auxiliary DGM", values: {"1000": "22.86"}}
    - {row: "Skip DGM", values: {"1000": "16.61 ± 0.24"}}
    - {row: "VAT", values: {"1000": "24.63"}}
    - {row: "DGN", values: {"1000": "36.02 ± 0.1"}}
    - row: "Triple GAN"
      values: {"1000": "94.23 ± 0.17"}
      corrected: {"1000": "5.77 ± 0.17"}
      slip: "an accuracy in a table of errors"
    - {row: "Bad GAN", values: {"1000": "95.75 ± 0.03"}}
    - {row: "Pi-model", values: {"500": "92.95 ± 0.3", "1000": "94.57 ± 0.25"}}
    - {row: "VAT (again)", values: {"1000": "75.37"}}
  text_says:
    - {where: abstract, row: "Wide Resnet, lambda", column: "500", metric: test_error, value: 9.82}
"""

BALESTRIERO_3 = """
table:
  id: balestriero_3
  title: CIFAR-10
  rows:
    - "CNN, lambda"
    - "Wide Resnet, lambda"
    - "Deep Resnet, lambda"
    - "CNN, Gamma"
    - "Deep Resnet, Gamma"
    - "Wide Resnet, Gamma"
    - "Sigmoid CNN, lambda"
  columns: ["4000", "8000"]
  metrics: {test_error: "test error %"}
  reported:
    "CNN, lambda": {"4000": {test_error: 22.63, std: 0.44, runs: 8}, "8000": {test_error: 17.92, std: 0.3, runs: 8}}
    "Wide Resnet, lambda": {"4000": {test_error: 23.71}, "8000": {test_error: 19.63}}
    "Deep Resnet, lambda": {"4000": {test_error: 28.64}, "8000": {test_error: 24.53}}
    "CNN, Gamma": {"4000": {test_error: 25.19}, "8000": {test_error: 19.96}}
    "Deep Resnet, Gamma": {"4000": {test_error: 27.62}, "8000": {test_error: 21.99}}
    "Wide Resnet, Gamma": {"4000": {test_error: 26.18}, "8000": {test_error: 21.24}}
    "Sigmoid CNN, lambda": {"4000": {test_error: 21.91, std: 0.42, runs: 8}, "8000": {test_error: 16.45, std: 0.23, runs: 8}}
  derived:
    "mean, lambda":
      mean_of: ["CNN, lambda", "Wide Resnet, lambda", "Deep Resnet, lambda"]
      reported: {"4000": {test_error: 24.99, std: 2.61}, "8000": {test_error: 20.69, std: 2.8}}
    "mean, Gamma":
      mean_of: ["CNN, Gamma", "Deep Resnet, Gamma", "Wide Resnet, Gamma"]
      reported: {"4000": {test_error: 26.33, std: 0.79}, "8000": {test_error: 21.06, std: 1.03}}
  quoted:
    - {row: "Improved GAN", values: {"4000": "18.63 ± 2.32", "8000": "17.72 ± 1.82"}}
    - {row: "Ladder network", values: {"4000": "20.40 ± 0.47"}}
    - {row: "CatGAN", values: {"4000": "19.58 ± 0.46"}}
    - {row: "DRMM + KL", values: {"4000": "23.24"}}
    - {row: "Triple GAN", values: {"4000": "83.01 ± 0.36"}}
    - {row: "Bad GAN", values: {"4000": "85.59 ± 0.30"}}
    - {row: "Pi-model", values: {"4000": "83.45 ± 0.29"}}
  text_says:
    - {where: abstract, row: "Sigmoid CNN, lambda", column: "8000", metric: test_error, value: 16.38}
"""


def alshami(number: int, rows: dict[str, tuple[str, ...]], extra: str = "") -> str:
    columns = ("C10 250", "C10 4000", "C100 2500", "C100 10000")
    lines = [
        "table:",
        f"  id: alshami_{number}",
        f"  title: Alshami, table {number}",
        f"  rows: {[*rows]}",
        f"  columns: {[*columns]}",
        "  metrics: {test_error: test error %}",
        "  reported:",
    ]
    for row, values in rows.items():
        cells = ", ".join(f'"{c}": {{test_error: {v}}}' for c, v in zip(columns, values, strict=True))
        lines.append(f'    "{row}": {{{cells}}}')
    return "\n".join(lines) + "\n" + extra


TEXT = """  text_says:
    - {where: section 3.1, row: "0.6", column: "C100 10000", metric: test_error, value: 61.38}
    - {where: section 3.1, row: "0.95", column: "C100 10000", metric: test_error, value: 63.644}
"""
PRINTED = {
    "balestriero_1": BALESTRIERO_1,
    "balestriero_2": BALESTRIERO_2,
    "balestriero_3": BALESTRIERO_3,
    "alshami_1": alshami(
        1,
        {
            "0.95": ("66.682", "30.042", "80.583", "63.644"),
            "0.75": ("68.908", "26.534", "81.916", "62.475"),
            "0.6": ("73.936", "25.113", "80.654", "61.36"),
        },
        TEXT,
    ),
    "alshami_2": alshami(2, {"VAT": ("68.362", "27.557", "83.454", "60.683")}),
    "alshami_3": alshami(
        3,
        {
            "0.95": ("73.47", "24.43", "87.58", "63.43"),
            "0.75": ("90.01", "26.93", "87.68", "65.51"),
            "0.6": ("75.31", "36.03", "89.79", "70.23"),
        },
    ),
}


def write_tables(conf: Path, tables: dict[str, str]) -> Path:
    """``conf`` as a configuration folder with these tables."""
    (conf / "table").mkdir(parents=True)
    for name, text in tables.items():
        (conf / "table" / f"{name}.yaml").write_text(text)
    return conf


def finished(row, column, accuracy, seed=0, scale="paper", table="t_1", **changes):
    curve = [{"epoch": 1, "test_accuracy": accuracy / 2}, {"epoch": 2, "test_accuracy": accuracy}]
    config = {"method": {"_target_": "m.M"}, "dataset": {"name": "d"}}
    fields = {"status": "finished", "metrics": record.summarise(curve), "curve": curve, "config": config} | changes
    name = f"{table}{row}{column}{seed}{scale}"
    return RunRecord(table=table, row=row, column=column, seed=seed, scale=scale, fingerprint=name, **fields)


def html_table(grid):
    """One table of the page."""
    return TEMPLATES.get_template("tables.html").module.table(grid)


def html_claims(judgements):
    """The page's section on all claims."""
    return TEMPLATES.get_template("tables.html").module.all_claims(judgements, HEADER, rule(judgements))
