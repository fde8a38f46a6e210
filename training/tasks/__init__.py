"""What is trained: a file a task, by name in `registry`."""
