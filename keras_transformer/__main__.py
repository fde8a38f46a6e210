"""`python -m keras_transformer` is the command `keras-transformer`."""

from keras_transformer.cli.app import main

main()
