"""Loads pictures and prepares them for models. Does not depend on colm_vl."""

from processors.errors import ImageError
from processors.fetching import FetchPolicy
from processors.images import Image

__all__ = ["FetchPolicy", "Image", "ImageError"]
