"""Image folders and archives."""
