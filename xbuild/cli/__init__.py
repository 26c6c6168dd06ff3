"""The command line: invoke tasks that only translate between words and calls."""
