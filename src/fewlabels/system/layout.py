"""The names of the files in a run's folder, each once."""

import re

RECORD = "record.json"
CHECKPOINT = "checkpoint.pt"  # from which the same command resumes
BEST = re.compile(r"best_[0-9]+\.pt")  # the state of the epoch of that number, to be loaded again
WEIGHTS = "model.safetensors"  # that a finished run was evaluated with
DESCRIPTION = "model.json"  # of those weights: all that is needed to use them without the data set
BEST_WEIGHTS = "model-best.safetensors"  # of the epoch of least validation loss, where there are validation images
BEST_DESCRIPTION = "model-best.json"  # of these
METRICS = "metrics.jsonl"  # a line an epoch
PICTURES = "pictures.npz"  # arrays ``<name>@<epoch>``
SPLIT = "split.npz"
SKIPPED = "skipped.csv"  # images that could not be read, where there are any
TEST_FILES = "test_files.csv"  # where they were drawn from the labelled ones
CONFIG = "config.yaml"
LOG = "train.log"
LOCK = ".lock"
# Renamed when the run is trained again, in this order, and before the record what BEST matches. The record goes last: until
# then the run is the old one. The log goes on: it says when that was.
RENAMED_ON_RERUN = (CHECKPOINT, METRICS, PICTURES, WEIGHTS, DESCRIPTION, BEST_WEIGHTS, BEST_DESCRIPTION, RECORD)


def best_name(epoch: int) -> str:
    """A name that :data:`BEST` matches."""
    return f"best_{epoch}.pt"
