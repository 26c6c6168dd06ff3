"""Build software for ARM on x86-64 as if on ARM.

This file stays empty of imports: `xbuild.sandbox.enter` starts once per phase and must start quickly.
"""
