"""The service: images in over gRPC, embeddings out, heads and neighbours on top."""
