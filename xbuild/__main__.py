"""`python -m xbuild`."""

from xbuild.cli.program import main

main()
