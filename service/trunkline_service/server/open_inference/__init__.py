"""Open Inference Protocol v2: the service that clients of KServe and Triton speak to."""
