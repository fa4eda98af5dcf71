"""Curves and rows of images."""
