"""Python wheels for targets: a sdist found, its requirements fetched, the recipe made of it, the wheel tried."""
