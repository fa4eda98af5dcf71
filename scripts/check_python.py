"""Stop a set-up early, in words, on a Python that the dependencies do not support."""

import sys

if not (3, 11) <= sys.version_info[:2] <= (3, 13):
    sys.exit(f"fewlabels needs Python 3.11 to 3.13, and this is {sys.version.split()[0]}: make PYTHON=python3.12 ...")
