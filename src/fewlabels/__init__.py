"""fewlabels: image classifiers from a few labels, and the tables of five write-ups reproduced."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("fewlabels")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"
