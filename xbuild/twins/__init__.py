"""Native programs that stand in for programs of the target: which, and how they are made."""
