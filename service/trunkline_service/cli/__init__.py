"""The command line: one file per group of commands; every command wraps a library call."""
