"""Where a network is cut, and what becomes of the tensors there."""
