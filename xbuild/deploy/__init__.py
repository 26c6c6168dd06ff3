"""Puts what was built onto a board, by the user's own ssh: only what changed, and away again only what it put there."""

from xbuild.deploy.deploy import Deployed, deploy

__all__ = ["Deployed", "deploy"]
