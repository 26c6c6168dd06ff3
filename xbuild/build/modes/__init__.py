"""What a mode other than the plain ones brings along."""
