"""Builds source packages and holds each .deb against the archive's own: identical, or with a cause that is shown."""
