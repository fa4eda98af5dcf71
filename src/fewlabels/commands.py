"""The installed commands. They hear of a signal from the first moment, and import what takes seconds after that."""

from __future__ import annotations

from fewlabels.system.stopping import stopper


def train() -> None:
    """``fewlabels-train``, as ``python -m fewlabels.train``."""
    stopper.listen()
    from fewlabels import train

    stopper.listen(tidily=True)
    train.main()


def report() -> None:
    """``fewlabels-report``, as ``python -m fewlabels.report``."""
    stopper.listen()
    from fewlabels.report import __main__ as report

    stopper.listen(tidily=True)
    report.main()


def predict() -> None:
    """``fewlabels-predict``, as ``python -m fewlabels.predict``."""
    stopper.listen()
    from fewlabels import predict

    stopper.listen(tidily=True)
    predict.main()
