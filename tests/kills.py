"""SIGKILL: every method at random moments and in the middle of writing, a sweep after every tenth run, and moments picked
one by one (kills_aimed.py): each rename, half a line of metrics, before workers start, a closed terminal, other threads.

python -m tests.kills --kills 12 --sweep 200        # make kills

Each killed run is given again until it ends, and must then have the weights, lines and record of one that was never killed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from fewlabels.config.compose import composed
from tests.conftest import QUICK, random_images, write_image_tar
from tests.kills_aimed import AIMED, Tally, result, start
from tests.training.test_resume import METHODS, assert_same, overrides

WRITING = (
    "runs/*/*.pt.tmp",
    "runs/*/model.*.tmp",
    "cache/*.building",
)  # what lies there while a file is being written
CACHE = [
    "dataset=folder",
    "dataset.num_labels=20",
    "dataset.image_size=32",
    "method=fixmatch",
    "batch.size=32",
    "epochs=2",
    "batch.steps=50",
]
COMPILED = [case for case, options in METHODS.items() if "hardware.compile=true" in options]


def settings(case: str, data: Path) -> list[str]:
    if case == "cache":
        return [*CACHE, f"dataset.path={data}"]
    # Compiling takes seconds, and is killed as well; the training after it should take as long.
    return [*overrides(case), "epochs=40" if case in COMPILED else "epochs=6"]


def configuration(case: str, data: Path, root: Path) -> Any:
    # checkpoints as often as can be: one is written most of the time
    return composed(
        *QUICK, *settings(case, data), f"output_root={root}", f"cache_dir={root / 'cache'}", "checkpoint_seconds=1e-9"
    )


def run_for(cfg: Any, root: Path, life: float, aimed: bool, tally: Tally) -> bool:
    """Start a run and kill it after ``life`` seconds (``aimed``: at the next write after that). True: it ended before."""
    number, born = start(cfg), time.monotonic()
    while True:
        ended, status = os.waitpid(number, os.WNOHANG)
        if ended:
            if status:
                raise AssertionError(f"a resumed run failed in {root}")
            return True
        age = time.monotonic() - born
        if age >= life and (not aimed or age >= life + 2 or any(any(root.glob(place)) for place in WRITING)):
            os.kill(number, signal.SIGKILL)
            os.waitpid(number, 0)
            tally.kills += 1
            tally.writing += any(any(root.glob(place)) for place in WRITING)
            return False
        time.sleep(0.0005)


def kill(case: str, kills: int, folder: Path, draw: random.Random) -> Tally:
    """Kill a case ``kills`` times, in as many runs as that takes."""
    tally, data = Tally(), folder / "images.tar.gz"
    write_image_tar(data, random_images(1500, 2, 48), random_images(100, 2, 48), ("a", "b"))
    whole, began = folder / "whole", time.monotonic()
    run_for(configuration(case, data, whole), whole, 1e9, False, tally)
    length, expected = time.monotonic() - began, result(whole)
    while tally.kills < kills:
        root = folder / str(tally.runs)
        while not run_for(
            configuration(case, data, root), root, draw.uniform(0.02, 0.9) * length, bool(tally.kills % 2), tally
        ):
            if tally.kills >= kills:
                run_for(configuration(case, data, root), root, 1e9, False, tally)
                break
        tally.runs += 1
        try:
            assert_same(list(expected), list(result(root)))
        except AssertionError as error:
            print(f"{case}: {error} differs in run {tally.runs}", file=sys.stderr)
            tally.lost += 1
    return tally


def sweep(count: int, folder: Path, every: int = 10) -> Tally:
    """One command of ``count`` tiny runs, killed each time ``every`` more of them have finished, and given again."""
    command = [sys.executable, "-m", "fewlabels.train", "-m", "method=supervised", "epochs=1", "batch.steps=2", *QUICK]
    command += ["scale.max_test_images=20", f"seed=range({count})", f"output_root={folder}"]
    tally, goal, code = Tally(), every, None

    def finished() -> list[Path]:
        return [p for p in folder.glob("runs/*/record.json") if json.loads(p.read_text())["status"] == "finished"]

    while code is None:
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            while (code := process.poll()) is None:
                if len(finished()) >= goal and goal < count:
                    process.kill()
                    tally.kills, goal = tally.kills + 1, len(finished()) + every
                    break
                time.sleep(0.05)
    seeds = sorted(json.loads(path.read_text())["seed"] for path in finished())
    tally.runs = len(seeds)
    tally.lost = count - len(set(seeds)) + (code != 0)
    return tally


def _compiles() -> bool:
    """Asked in another process: this one forks, and what compiles has threads."""
    code = "import sys; from tests.conftest import compiles; sys.exit(not compiles())"
    return subprocess.run([sys.executable, "-c", code]).returncode == 0


def main() -> None:
    parser = argparse.ArgumentParser(description="Kill runs, give them again, and count what is lost.")
    parser.add_argument(
        "cases", nargs="*", default=[*METHODS, "cache", *AIMED], help=f"default: all; methods, cache, {', '.join(AIMED)}"
    )
    parser.add_argument("--kills", type=int, default=12, help="of each case")
    parser.add_argument("--sweep", type=int, default=0, help="runs of a sweep that is killed after every tenth")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if set(COMPILED) & set(arguments.cases) and not _compiles():
        arguments.cases = [case for case in arguments.cases if case not in COMPILED]
        print(f"left out: {', '.join(COMPILED)}: torch.compile finds no compiler here")
    total, draw = Tally(), random.Random(arguments.seed)
    jobs = [
        (case, lambda folder, case=case: (AIMED.get(case) or partial(kill, case))(arguments.kills, folder, draw))
        for case in arguments.cases
    ]
    if arguments.sweep:
        jobs.append((f"a sweep of {arguments.sweep}", lambda folder: sweep(arguments.sweep, folder)))
    for name, job in jobs:
        with tempfile.TemporaryDirectory() as folder:
            tally = job(Path(folder))
        writing = f" ({tally.writing} while it was writing)" if tally.writing else ""
        print(f"{name}: {tally.kills} kills{writing}, {tally.runs} runs compared, {tally.lost} lost", flush=True)
        total = Tally(*(a + b for a, b in zip(vars(total).values(), vars(tally).values(), strict=True)))
    print(f"kills tried: {total.kills} ({total.writing} while writing); runs lost: {total.lost}")
    sys.exit(bool(total.lost))


if __name__ == "__main__":
    main()
