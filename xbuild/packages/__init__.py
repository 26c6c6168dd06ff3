"""Debian packages: sources found and verified, recipes made of them, built, and their files collected."""

from xbuild.packages.build import Built, build_deb
from xbuild.packages.find import Where, find
from xbuild.packages.recipe import Options, recipe_of
from xbuild.packages.source import SourceFile, SourcePackage

__all__ = ["Built", "Options", "SourceFile", "SourcePackage", "Where", "build_deb", "find", "recipe_of"]
