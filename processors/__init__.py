"""From a user's picture to a model's tensors. Knows nothing of colm_vl."""

from processors.errors import ImageError
from processors.fetching import FetchPolicy
from processors.images import Image

__all__ = ["FetchPolicy", "Image", "ImageError"]
