"""What each part of the method is worth: the same questions again with one thing changed."""
