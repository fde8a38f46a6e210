"""Tokeniser, model and search in one graph: a file a task."""
