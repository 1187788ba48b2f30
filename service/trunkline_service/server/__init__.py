"""The gRPC front: thin servicers over the workspace, converters, status table, health, metrics."""
