"""The link between a process that decodes and the one that owns the device.

Pixels lie in a memfd of the one that decodes, handed over once; what is said about them crosses a Unix socket.
"""
