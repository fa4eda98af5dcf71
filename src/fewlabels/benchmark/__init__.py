"""How fast training is, and what a run will cost."""
