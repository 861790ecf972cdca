"""The web page: `colm-vl page`."""
