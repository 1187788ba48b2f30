"""Other precisions of an exported, verified fp32 file: fp16 for GPUs, int8 for CPUs.

Works on ONNX files alone: uint8 ``image`` [batch, height, width, 3] in, float32 ``embedding`` [batch, dim]
out, before as after.
"""
