"""The built wheel trains from an empty directory, with its configuration inside."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import fewlabels

ROOT = Path(fewlabels.__file__).resolve().parents[2]


@pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="not a source tree")
def test_a_wheel_trains_from_an_empty_directory(tmp_path):
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    assert (tmp_path / "site" / "fewlabels" / "conf" / "config.yaml").is_file()
    (tmp_path / "empty").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "PYTHONWARNINGS": "ignore"}
    code = "import fewlabels, sys; assert 'site' in fewlabels.__file__; from fewlabels.train import main; main()"
    command = [sys.executable, "-c", code, "debug=tiny", "hardware.threads=1"]
    result = subprocess.run(command, cwd=tmp_path / "empty", env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert list((tmp_path / "empty").glob("outputs/runs/supervised-*/record.json"))
