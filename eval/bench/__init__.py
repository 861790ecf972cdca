"""How fast the machinery is, apart from the models: `python -m eval.bench`."""
