"""One thread a process: pytest's workers and the commands that tests start share the cores already."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch, NumPy and scikit-learn are first imported
