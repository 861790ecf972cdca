"""Formats of other evaluation harnesses: writing a run's answers, and reading their logs."""
