"""Measures the speed and memory use of colm-vl itself, without real models: `python -m eval.bench`."""
