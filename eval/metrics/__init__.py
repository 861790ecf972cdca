"""Metrics that grade a reply against the gold answer of a question, one module each."""
