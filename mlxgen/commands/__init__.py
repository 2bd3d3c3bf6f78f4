"""The command line, one file per command: options in, calls to the library, lines out."""
