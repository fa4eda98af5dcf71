"""From an archive to batches: source -> split -> two streams of indices -> views, made for a whole batch at once."""
