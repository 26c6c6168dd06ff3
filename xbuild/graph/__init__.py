"""Many builds that need each other: which there are, in which order, and how they are run."""
