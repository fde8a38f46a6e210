"""The local server: TensorFlow Serving's interface on a laptop, in front of any model of ours.

A request goes one way: `rest` or `grpc_service` -> `batching` -> a version of `versions` -> back.
Production is TensorFlow Serving itself; see docs/serving.md.
"""
