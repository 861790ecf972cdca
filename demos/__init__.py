"""Things to look at. `python -m demos.image_qa` opens the web page."""
