"""Commands, sweeps, and errors in one line."""
