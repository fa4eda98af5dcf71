"""The notebook runs as it stands, and the page shows its lines."""

import json
import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_notebook_runs_and_the_page_has_the_same_lines(tmp_path, monkeypatch, capsys):
    notebook = json.loads((DOCS / "notebook.ipynb").read_text())
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    blocks = [block.strip() for block in re.findall(r"```python\n(.*?)```", (DOCS / "python.md").read_text(), re.DOTALL)]
    *shown, estimator = blocks
    assert cells == shown
    assert not any(cell.get("outputs") for cell in notebook["cells"])
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for cell in [*cells, estimator.replace("steps=200", "steps=2")]:
        exec(cell, names)
    printed = capsys.readouterr().out.splitlines()
    assert [line.split("-")[0] for line in printed[:2]] == ["supervised", "fixmatch"]
    assert len(list((tmp_path / "outputs" / "runs").iterdir())) == 2
    assert printed[-2].startswith("(500, 10) ('0', '1', ")
    assert 0 <= float(printed[-1]) <= 1
