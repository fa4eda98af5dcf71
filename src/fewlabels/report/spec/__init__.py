"""What the write-ups report, and what they claim."""
