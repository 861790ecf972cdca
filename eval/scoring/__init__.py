"""Readers: from the words of a reply to what it answers. Pure text, one module a family of rules."""
