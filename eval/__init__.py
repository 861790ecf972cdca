"""Does collaborating help, with these models, on this benchmark, and at what cost? `python -m eval --help`."""
