"""Run what a table lacks, then print it: what ``make table-<id>`` does, as one process, so that it hears every signal.

python scripts/run_table.py srikanth_1 outputs scale=proxy seed=0,1 ...
"""

from __future__ import annotations

import sys
from pathlib import Path

from fewlabels.system.stopping import stopper

if __name__ == "__main__":  # before the imports below, which take seconds
    stopper.listen()

from fewlabels import train
from fewlabels.config.compose import cells
from fewlabels.launch.jobs import jobs_that_fit, this_machine
from fewlabels.report import __main__ as report
from fewlabels.runs import record
from fewlabels.system.terminal import print_result

AUTO = "hydra.launcher.n_jobs=auto"


def _jobs(table: str, root: str, overrides: list[str]) -> str:
    """As many at once as fit."""
    own = [each for each in overrides if not each.startswith(("hydra", "seed="))]
    seeds = next((each.count(",") + 1 for each in overrides if each.startswith("seed=")), 1)
    configs = cells(table, *own)
    records = (found for _, found in record.read_all(sorted(Path(root).glob(f"{table}/*/record.json"))))
    jobs, why = jobs_that_fit(this_machine(), seeds * len(configs), records, configs[0].scale.name)
    print_result(f"JOBS=auto: {jobs} at once ({why})")
    return f"hydra.launcher.n_jobs={jobs}"


def main() -> None:
    table, root, *overrides = sys.argv[1:]
    if AUTO in overrides:
        overrides[overrides.index(AUTO)] = _jobs(table, root, overrides)
    sys.argv[1:] = [f"table={table}", f"output_root={root}", *overrides]
    try:
        train.main()
        code: object = 0
    except SystemExit as end:
        code = end.code
    stopper.listen(tidily=True)  # to the end of this process, and no longer to that of its cells
    sys.argv[1:] = [root, "--to", f"{root}/report", "--table", table]
    try:
        report.main()  # whether or not a cell failed
    except SystemExit as end:
        code = code or end.code
    sys.exit(code)


if __name__ == "__main__":
    stopper.listen(tidily=True)
    main()
