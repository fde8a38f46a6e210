"""What runs models: signatures by name, many texts in bounded memory. No TensorFlow."""
