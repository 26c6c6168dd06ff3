"""All tests of xbuild."""
