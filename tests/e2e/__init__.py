"""Tests of whole commands: roots are made, and recipes built."""
