# syntax=docker/dockerfile:1
# Two images from one file: `docker build --target cpu .` (slim) and `docker build --target cuda .`
# Every RUN line is a plain command: tests/packaging/test_dockerfile.py runs them without an engine.

ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
WORKDIR /src
COPY . /src
RUN python -m pip wheel --no-cache-dir --no-deps --wheel-dir /wheels /src

FROM python:${PYTHON}-slim AS base
COPY --from=build /wheels /wheels
COPY constraints.txt /wheels/constraints.txt
RUN python -m venv /opt/trunkline

FROM base AS install-cpu
# [server] asks for onnxruntime-gpu on Linux x86-64; the slim image takes the CPU build of the same version.
RUN /opt/trunkline/bin/python -m pip install --no-cache-dir -c /wheels/constraints.txt "$(ls /wheels/*.whl)[server]"
RUN /opt/trunkline/bin/python -m pip uninstall --yes onnxruntime-gpu
RUN /opt/trunkline/bin/python -m pip install --no-cache-dir "onnxruntime==$(sed -n 's/^onnxruntime-gpu==//p' /wheels/constraints.txt)" -c /wheels/constraints.txt

FROM base AS install-cuda
# CUDA and cuDNN come from pip's NVIDIA wheels: no CUDA base image is needed, only the host's driver.
RUN /opt/trunkline/bin/python -m pip install --no-cache-dir -c /wheels/constraints.txt "$(ls /wheels/*.whl)[server]" "onnxruntime-gpu[cuda,cudnn]"

FROM python:${PYTHON}-slim AS runtime
RUN useradd --system --uid 10001 --no-create-home trunkline
ENV PATH=/opt/trunkline/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    TRUNKLINE_MODELS=/models \
    TRUNKLINE_DATA=/data
VOLUME ["/models", "/data"]
EXPOSE 50051 9090
STOPSIGNAL SIGTERM
# Health is grpc.health.v1: ready only when every bucket is warm, off when a stage died.
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s CMD ["trunkline", "health", "--server", "127.0.0.1:50051"]
USER 10001
ENTRYPOINT ["trunkline"]
# A container is reached from outside; what stands in front of it encrypts, or give --tls-cert and --tls-key.
CMD ["serve", "--listen", "0.0.0.0:50051", "--insecure", "--metrics-listen", "0.0.0.0:9090"]

FROM runtime AS cuda
COPY --from=install-cuda /opt/trunkline /opt/trunkline

FROM runtime AS cpu
COPY --from=install-cpu /opt/trunkline /opt/trunkline
