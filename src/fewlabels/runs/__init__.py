"""A run's folder: record, checkpoint, fingerprint."""
