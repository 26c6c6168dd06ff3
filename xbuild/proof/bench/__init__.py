"""Measures builds of the same recipes against each other, and the cost of one exec."""
