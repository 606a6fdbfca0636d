"""Offline training: reads the weak-label store, writes one ``.onnx`` bundle."""
