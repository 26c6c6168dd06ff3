"""What `invoke` offers in this directory."""

from xbuild.cli.namespace import namespace

__all__ = ["namespace"]
