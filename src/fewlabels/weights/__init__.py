"""Weights that a network starts from, and no run of fewlabels: from a file, or timm's own."""
