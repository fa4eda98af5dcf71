"""Curves over training, drawn from the records alone."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from fewlabels.report.collect import Results
from fewlabels.report.definitions import TableDefinition
from fewlabels.types import RunRecord, UserError


def accuracy_figure(table: TableDefinition, results: Results, scale: str, folder: Path) -> str | None:
    """Test accuracy over epochs, a panel a column, a line a row with its range over seeds.

    Writes ``<folder>/<table>-<scale>-accuracy.svg`` and returns the SVG; None where there is nothing to draw.
    """
    runs = results.of_table(table.id, scale)
    if not runs:
        return None
    pyplot = _pyplot()
    columns = [c for c in table.columns if any(run.column == c for run in runs)]
    width = max(4.2 * len(columns), 6)
    figure, axes = pyplot.subplots(1, len(columns), figsize=(width, 3.4), sharey=True, squeeze=False)
    for axis, column in zip(axes[0], columns, strict=True):
        for i, row in enumerate(table.rows):
            cell = results.runs(table.id, scale, row, column)
            if cell:
                _draw(axis, cell, row, f"C{i}")
        axis.set_title(column, fontsize=10)
        axis.set_xlabel("epoch")
        axis.grid(alpha=0.25)
    axes[0][0].set_ylabel("test accuracy %")
    axes[0][-1].legend(title=table.rows_are or None, fontsize=8, title_fontsize=8, frameon=False, loc="best")
    figure.tight_layout()
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    pyplot.close(figure)
    svg = text.getvalue()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{table.id}-{scale}-accuracy.svg").write_text(svg)
    return svg[svg.index("<svg") :]


def _draw(axis, runs: list[RunRecord], label: str, colour: str) -> None:  # type: ignore[no-untyped-def]
    curves = [
        (
            [line["epoch"] for line in run.curve if "test_accuracy" in line],
            [line["test_accuracy"] for line in run.curve if "test_accuracy" in line],
        )
        for run in runs
    ]
    length = min(len(epochs) for epochs, _ in curves)
    epochs = curves[0][0][:length]
    values = np.array([accuracy[:length] for _, accuracy in curves])
    axis.plot(epochs, values.mean(axis=0), label=label, color=colour, linewidth=1.6)
    if len(runs) > 1:
        axis.fill_between(epochs, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.18, linewidth=0)


def _pyplot():  # type: ignore[no-untyped-def]
    try:
        import matplotlib
    except ImportError as error:
        raise UserError('the report draws with matplotlib: pip install "fewlabels[report]"') from error
    matplotlib.use("agg")
    matplotlib.rcParams["svg.hashsalt"] = "fewlabels"  # the same records give the same file
    matplotlib.rcParams["svg.fonttype"] = "none"
    from matplotlib import pyplot

    return pyplot
