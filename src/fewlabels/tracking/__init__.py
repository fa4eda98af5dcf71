"""Who hears of a run's progress: a bar, a JSONL file, W&B, TensorBoard, behind one small interface (base.py)."""
