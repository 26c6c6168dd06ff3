"""Readers of files that others write: ELF, package databases, records of execs."""
