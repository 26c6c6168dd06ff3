"""Sessions: one foreign program, or a whole foreign system, as the user's own, now; nothing is built."""
