"""Run what a table lacks, then print it: what ``make table-<id>`` does, as one process, so that it hears every signal.

python scripts/run_table.py srikanth_1 outputs scale=proxy seed=0,1 ...
"""

from __future__ import annotations

import sys

from fewlabels.system.stopping import stopper

if __name__ == "__main__":  # before the imports below, which take seconds
    stopper.listen()

from fewlabels import train
from fewlabels.report import __main__ as report


def main() -> None:
    table, root, *overrides = sys.argv[1:]
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
