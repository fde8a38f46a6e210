"""The run folder: its configuration, checkpoints and weights."""
