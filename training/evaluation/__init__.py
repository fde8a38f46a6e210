"""Scores of what a model answers."""
