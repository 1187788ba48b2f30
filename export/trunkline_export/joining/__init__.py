"""Networks that are ONNX already: cut, freed of a fixed batch, joined with preprocessing and pooling."""
