"""Measures on benchmarks whether collaboration helps, and what it costs. `colm-vl eval --help` lists the commands."""
