"""Decoded images, kept between runs."""
