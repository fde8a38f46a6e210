"""Running models without TensorFlow: signatures by name, many texts in bounded memory."""
