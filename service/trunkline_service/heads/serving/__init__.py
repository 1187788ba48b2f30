"""Heads at work: as ONNX, loaded, and several at once."""
