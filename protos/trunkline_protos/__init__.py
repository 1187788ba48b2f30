"""Generated protobuf and gRPC modules of Trunkline."""
