"""One model in ONNX Runtime: uint8 batches in, float32 embeddings out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trunkline_service.errors import ModelFileError, SettingsError
from trunkline_service.models.plan import ExecutionPlan
from trunkline_service.models.repository import ModelFolder
from trunkline_service.models.triton_config import INPUT_NAME, OUTPUT_NAME

_NVIDIA_DEVICE_FILES = (Path("/dev/nvidiactl"), Path("/dev/dxg"))


@dataclass(frozen=True)
class Device:
    """Where a session runs.

    Attributes:
        kind: ``cpu`` or ``cuda``.
        ordinal: Number of the CUDA device.
    """

    kind: str
    ordinal: int = 0

    def __str__(self) -> str:
        return self.kind if self.kind == "cpu" else f"{self.kind}:{self.ordinal}"


def parse_device(text: str) -> Device:
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N``. ``auto`` is CUDA where this machine shows an NVIDIA device.

    Raises:
        SettingsError: Anything else.
    """
    if text == "auto":
        return Device("cuda") if any(path.exists() for path in _NVIDIA_DEVICE_FILES) else Device("cpu")
    kind, colon, ordinal = text.partition(":")
    if kind == "cpu" and not colon:
        return Device("cpu")
    if kind == "cuda" and (not colon or ordinal.isdigit()):
        return Device("cuda", int(ordinal or 0))
    raise SettingsError(f"device {text!r} is none of 'auto', 'cpu', 'cuda', 'cuda:N'")


class ModelSession:
    """A loaded model.

    ``run`` may be called from several threads on the CPU.

    Args:
        folder: The published model; its checksum is verified here.
        device: Where to run.
        plan: Threads inside one run, runs at once, and the most images in one. On CUDA only its ``batch``
            counts.

    Attributes:
        card: What the model was published as.
        device: Where it runs.
        plan: How it is meant to be run.

    Raises:
        ModelFileError: The file is no ONNX model, or does not match its card.
        SettingsError: CUDA was asked for and can't run this model.
    """

    def __init__(self, folder: ModelFolder, device: Device, plan: ExecutionPlan) -> None:
        folder.verify()
        self.card = folder.card
        self.device = device
        self.plan = plan
        self._session = _open(folder, device, plan.threads)
        self._check_signature()
        self._output = [OUTPUT_NAME]

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the input, in pixels."""
        return self.card.preprocess.input_size

    def run(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embeds a batch.

        Args:
            batch: uint8 RGB, [N, height, width, 3], C-contiguous.

        Returns:
            float32, [N, dim].
        """
        result: NDArray[np.float32] = self._session.run(self._output, {INPUT_NAME: batch})[0]
        return result

    def warm(self, sizes: Sequence[int]) -> None:
        """Runs every batch size once, so that no caller pays for the first allocation of it.

        Args:
            sizes: Images in a batch; those above ``plan.batch`` are left out, it itself is always run.

        Raises:
            ModelFileError: A size can't be run (out of memory, say).
        """
        for size in sorted({min(size, self.plan.batch) for size in (*sizes, self.plan.batch)}):
            self.warm_one(size)

    def warm_one(self, size: int) -> None:
        """Runs one batch of ``size`` images; see `warm`."""
        height, width = self.input_size
        try:
            self.run(np.zeros((size, height, width, 3), np.uint8))
        except Exception as exc:
            raise ModelFileError(
                f"model {self.card.reference} can't run a batch of {size} on {self.device}: "
                f"{type(exc).__name__}; lower queue.max_batch, or export the model again"
            ) from exc

    def _check_signature(self) -> None:
        height, width = self.input_size
        given = [(entry.name, entry.type, entry.shape[1:]) for entry in self._session.get_inputs()]
        wanted = [(INPUT_NAME, "tensor(uint8)", [height, width, 3])]
        if given != wanted:
            raise ModelFileError(
                f"model {self.card.reference}: card.json promises the input {wanted}, model.onnx has "
                f"{given}; export it again"
            )
        outputs = [(entry.name, entry.type, entry.shape[1:]) for entry in self._session.get_outputs()]
        promised = [(OUTPUT_NAME, "tensor(float)", [self.card.dim])]
        if outputs != promised:
            raise ModelFileError(
                f"model {self.card.reference}: card.json promises the output {promised}, model.onnx has "
                f"{outputs}; export it again"
            )


def _open(folder: ModelFolder, device: Device, threads: int) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning threads take the cores that decoding needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    # ONNX Runtime raises a dozen classes that share no base below Exception.
    try:
        return ort.InferenceSession(os.fspath(folder.onnx), options, providers=_providers(options, device))
    except Exception as exc:
        reference = folder.card.reference
        if device.kind == "cuda":
            raise SettingsError(
                f"model {reference} can't run on {device}: {_first_line(exc, folder)} Install the CUDA packages "
                "(pip install 'onnxruntime-gpu[cuda,cudnn]'), or serve with --device cpu"
            ) from exc
        raise ModelFileError(
            f"model {reference}: ONNX Runtime can't load model.onnx: {_first_line(exc, folder)} Export it again"
        ) from exc


def _providers(options: Any, device: Device) -> list[Any]:
    if device.kind == "cpu":
        return ["CPUExecutionProvider"]
    # Without this ONNX Runtime falls back to the CPU silently, node by node (contract 6).
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    # fp32 means fp32: no TF32 rounding inside matrix products.
    return [("CUDAExecutionProvider", {"device_id": device.ordinal, "use_tf32": "0"})]


def _first_line(exc: Exception, folder: ModelFolder) -> str:
    """What ONNX Runtime says, without the path: callers of a server read this."""
    text = str(exc).replace(os.fspath(folder.onnx), folder.onnx.name).strip().splitlines()
    return (text[0] if text else type(exc).__name__).rstrip(".") + "."
