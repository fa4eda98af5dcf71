"""Hyperparameter search: what may be chosen (space.py), what is tried next (study.py), and the runs that decide (run.py)."""
