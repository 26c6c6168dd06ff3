"""What xbuild made and may use again, and whose it may be."""
