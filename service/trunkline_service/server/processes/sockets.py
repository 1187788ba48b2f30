"""Where the processes of one server listen for each other, in its private folder."""

from __future__ import annotations

from pathlib import Path


def device_socket(folder: Path) -> Path:
    """Where the process of the device listens."""
    return folder / "device"


def data_target(folder: Path) -> str:
    """Where the process of the data listens, as gRPC writes it."""
    return f"unix:{folder / 'data'}"
