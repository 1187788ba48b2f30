"""Images: bytes to RGB to the uint8 tensor that a model takes, within limits."""
