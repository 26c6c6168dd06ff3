"""Debian trees: made from the distribution, or imported."""
