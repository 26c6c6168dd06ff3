"""Tests with namespaces, a private binfmt_misc, and roots."""
