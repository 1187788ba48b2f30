"""Makes what is not in git before a wheel or an editable installation is built.

That is the protobuf and gRPC modules, and the compiled kernel that resizes images.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent
PROTOS = ROOT / "protos"
NATIVE = Path("service/trunkline_service/images/native")
LIBRARY = NATIVE / "resample.so"

# The order of floating-point operations is part of the pixels: no contraction, no -ffast-math.
FLAGS = ("-shared", "-fPIC", "-O3", "-std=c11", "-ffp-contract=off")
# A C compiler from pip, for machines without one (such as python:slim).
ZIGLANG = "ziglang==0.17.1"
# Every glibc since 2014, and how wheels say so.
OLD_GLIBC, MANYLINUX = "gnu.2.17", "manylinux_2_17"
MACHINES = ("x86_64", "aarch64")


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


def compilers() -> list[tuple[str, ...]]:
    """The C compilers to try, the best first; none where no library is made, and Pillow resizes.

    ``TRUNKLINE_CC`` decides if it is set: a command, ``zig`` (for wheels to publish) or ``none``.
    """
    if platform.system() != "Linux" or platform.machine() not in MACHINES:
        return []
    zig = (sys.executable, "-m", "ziglang", "cc", "-target", f"{platform.machine()}-linux-{OLD_GLIBC}")
    match os.environ.get("TRUNKLINE_CC", ""):
        case "none":
            return []
        case "zig":
            return [zig]
        case "":
            found = next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), None)
            on_glibc = platform.libc_ver()[0] == "glibc"
            return [*([(found,)] if found else []), *([zig] if on_glibc else [])]
        case command:
            return [tuple(shlex.split(command))]


def needs_ziglang() -> bool:
    """Whether compiling needs `ZIGLANG`: no compiler of the machine's own makes the kernel."""
    candidates = compilers()
    if not any(is_ziglang(compiler) for compiler in candidates):
        return False
    with tempfile.TemporaryDirectory() as folder:
        return not any(
            compile_with(compiler, Path(folder) / LIBRARY.name)
            for compiler in candidates
            if not is_ziglang(compiler)
        )


def is_ziglang(compiler: tuple[str, ...]) -> bool:
    """Whether a compiler is that of `ZIGLANG`."""
    return "ziglang" in compiler


def compile_with(compiler: tuple[str, ...], target: Path) -> bool:
    """Compiles the kernel to `target`; False, and the reason on stderr, if that was not possible.

    A process that has the library loaded keeps what it has.
    """
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder) / target.name
        source = str(ROOT / NATIVE / "resample.c")
        caches = dict.fromkeys(("ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR"), folder)
        try:
            subprocess.run(  # noqa: S603 - the compiler of this machine, or the one TRUNKLINE_CC names
                [*compiler, *FLAGS, "-o", str(made), source, "-lm"], check=True, env={**os.environ, **caches}
            )
        except (OSError, subprocess.CalledProcessError) as exc:
            sys.stderr.write(f"{compiler[0]} did not compile {source}: {exc}\n")
            return False
        made.replace(target)
    return True


def compile_kernel(target: Path = ROOT / LIBRARY) -> str | None:
    """Compiles the kernel; returns the platform tag of a wheel with it, or None where it can't be made.

    Raises:
        RuntimeError: ``TRUNKLINE_CC`` asked for a compiler, and that one did not.
    """
    for compiler in compilers():
        if is_ziglang(compiler) and find_spec("ziglang") is None:
            continue
        if compile_with(compiler, target):
            system = MANYLINUX if is_ziglang(compiler) else "linux"
            return f"{system}_{platform.machine()}"
    # One of earlier sources would be worse than none.
    target.unlink(missing_ok=True)
    if os.environ.get("TRUNKLINE_CC", "none") != "none":
        raise RuntimeError("the compiler that TRUNKLINE_CC names did not make the kernel; see above")
    return None


class BuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Runs protoc and the C compiler; git-ignored results are named as artifacts."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """What pip installs for the build besides pyproject.toml's list: a compiler, where there is none."""
        return [ZIGLANG] if self.target_name == "wheel" and needs_ziglang() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before files are collected."""
        if self.target_name != "wheel":
            return
        generate()
        if tag := compile_kernel():
            build_data["artifacts"].append(f"/{LIBRARY.as_posix()}")
            build_data["pure_python"] = False
            # Loaded by ctypes: any Python will do.
            build_data["tag"] = f"py3-none-{tag}"
        else:
            sys.stderr.write("no C compiler: the wheel is for any machine, and Pillow will resize images\n")


if __name__ == "__main__":
    for path in generate():
        sys.stdout.write(f"compiled {path.relative_to(ROOT)}\n")
    if compile_kernel():
        sys.stdout.write(f"compiled {LIBRARY}\n")
