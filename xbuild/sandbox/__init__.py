"""Namespaces, mounts and the private binfmt_misc instance that a build runs in."""
