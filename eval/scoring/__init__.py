"""Parsers that find the answer in a reply, one module for each family of rules, and the scorer."""
