"""Weights in and out: our own files and the released TensorFlow checkpoints."""
