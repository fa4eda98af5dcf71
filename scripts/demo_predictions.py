"""The end of ``make demo``: a few held-out digits as image files, and the labels that a network of the demo gives them.

python scripts/demo_predictions.py outputs
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

from fewlabels import predict
from fewlabels.data.sources import open_data
from fewlabels.launch.errors import report_error
from fewlabels.runs import record
from fewlabels.system.terminal import print_result
from fewlabels.types import UserError

METHOD = "flexmatch"
COUNT = 10


def write_digits(folder: Path) -> None:
    """The first test image of each class as ``N.png``, N being what it shows."""
    data = open_data("digits", "digits", Path())
    folder.mkdir(parents=True, exist_ok=True)
    for digit in range(COUNT):
        number = int((data.test.labels == digit).argmax())
        Image.fromarray(data.test.images[number, :, :, 0]).save(folder / f"{digit}.png")


def main() -> None:
    root = Path(sys.argv[1])
    runs = record.read_all(sorted((root / "demo").glob("*/record.json")))
    trained = [path.parent for path, found in runs if found.row == METHOD and found.status == "finished"]
    if not trained:
        sys.exit(report_error(UserError(f"no run of {METHOD} in {root / 'demo'} has finished")))
    digits = root / "demo" / "digits"
    write_digits(digits)
    print_result(f"Ten digits that no network was trained on, and what {METHOD} makes of them:")
    sys.argv[1:] = [str(trained[0]), str(digits)]
    predict.main()


if __name__ == "__main__":
    main()
