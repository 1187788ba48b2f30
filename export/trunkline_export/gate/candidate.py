"""An exported file that is not published yet, loaded for the checks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trunkline_service.errors import ExportError
from trunkline_service.models.triton_config import INPUT_NAME, OUTPUT_NAME


def session_of(model: str | bytes) -> Any:
    """An ONNX Runtime session on the CPU, of a file's path or of its bytes.

    Raises:
        ExportError: ONNX Runtime can't load it.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    # Spinning threads starve each other on machines that are busy with something else.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as exc:  # ONNX Runtime raises a dozen classes without a common base
        raise ExportError(f"ONNX Runtime can't load the exported graph: {exc}") from exc


class Candidate:
    """ONNX Runtime on the CPU.

    Args:
        path: Of the file.

    Raises:
        ExportError: ONNX Runtime can't load it.
    """

    def __init__(self, path: Path) -> None:
        self._session = session_of(os.fspath(path))

    def run(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 [N, height, width, 3] to float32 [N, dim].

        Raises:
            ExportError: The graph does not run at this batch size.
        """
        try:
            (vectors,) = self._session.run([OUTPUT_NAME], {INPUT_NAME: pixels})
        except Exception as exc:  # as above
            raise ExportError(f"the exported graph can't run a batch of {len(pixels)}: {exc}") from exc
        if len(vectors) != len(pixels):
            raise ExportError(
                f"the exported graph gives {len(vectors)} vectors for a batch of {len(pixels)}; "
                "its batch size was pinned when it was traced"
            )
        result: NDArray[np.float32] = vectors
        return result
