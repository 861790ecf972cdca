"""colm-vl: several small vision-language models and one large one answer together, without training anything."""

__version__ = "0.1.0"
