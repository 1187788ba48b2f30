"""Served throughput beside the raw runtime and beside other servers: one Markdown table of ratios, from one command.

    python -m tests.benchmarks.serving [--quick] [--only table|multi|lanes|memory|photos|start]... [--json FILE]
                                       [--models DIR] [--images DIR] [--networks free,mobilenetv2,resnet50]
                                       [--peers DIR [--same-decode]] [--servers NAME,...] [--frontends N]
                                       [--calls 1,16,64] [--rounds 2] [--seconds 3.5] [--report FILE]

Raw is the same decode and ONNX Runtime in a loop, the best of several ways to use the cores. "Of raw + call" also
charges raw with the CPU of a gRPC call that does nothing and of the load generator, both measured in the same run.
Table: one image a call, from 1, 16 and 64 callers. Multi: 16 images a call. Lanes: what a bulk job does to
interactive calls. Memory: over ``--seconds`` at 64 callers. Photos: of 2,000-4,000 pixels, in both decode modes.
Start: from the start of the process to ready.

``--peers`` names a folder with other servers, a load generator and `run_all.py`, which knows how each is started;
the environment variable BENCH_HOME names where their environments are. They run with their own decode, and with
``--same-decode`` once more with Trunkline's, so that servers are compared with servers. Without it Trunkline alone
is measured, by a generator of ours. Models (a near-free one, MobileNetV2 and ResNet-50 with random weights) and
JPEGs are made unless folders with them are named. A line is appended to the JSON file as soon as something was
measured; ``--report`` prints the table of such a file.
"""
