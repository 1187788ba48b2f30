"""Generates the protobuf and gRPC modules before a wheel or an editable installation is built."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent
PROTOS = ROOT / "protos"


def generate(root: Path = PROTOS) -> list[Path]:
    """Compiles every ``.proto`` under ``root`` beside itself; returns the sources compiled.

    Raises:
        RuntimeError: protoc refused a file (its own message is on stderr).
    """
    from grpc_tools import protoc

    include = Path(protoc.__file__).parent / "_proto"
    sources = sorted(root.rglob("*.proto"))
    arguments = [
        "protoc",
        f"--proto_path={root}",
        f"--proto_path={include}",
        f"--python_out={root}",
        f"--pyi_out={root}",
        f"--grpc_python_out={root}",
        *(str(source) for source in sources),
    ]
    if protoc.main(arguments) != 0:
        raise RuntimeError(f"protoc failed on {root}; see its message above")
    return sources


class ProtocHook(BuildHookInterface):  # type: ignore[type-arg]
    """Runs protoc; the results are listed as artifacts in pyproject.toml."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before files are collected."""
        if self.target_name in {"wheel", "editable"}:
            generate()


if __name__ == "__main__":
    for path in generate():
        sys.stdout.write(f"compiled {path.relative_to(ROOT)}\n")
