"""Does collaborating help, with these models, on this benchmark, and at what cost? `colm-vl eval --help`."""
