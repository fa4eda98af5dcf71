"""What every room stands on: files, paths, seeds, signals, the device."""
