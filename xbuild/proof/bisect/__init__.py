"""Finds the twins that are at fault when a substituted build fails, or gives other bytes than the emulated one."""

from xbuild.proof.bisect.search import bisect

__all__ = ["bisect"]
