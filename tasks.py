"""What `invoke` offers in this directory."""

from xbuild.cli.tasks import namespace

__all__ = ["namespace"]
