"""The command line: `cli` and one file a command."""
