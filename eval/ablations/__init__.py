"""Ablations: the same questions with one thing changed about the method or the team."""
