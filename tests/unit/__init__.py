"""Tests that need neither root, network nor namespaces."""
