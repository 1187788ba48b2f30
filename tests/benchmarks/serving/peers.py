"""The other servers: a folder that is not ours, in a copy of its own."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import PIL

import trunkline_service

SHIM = Path(__file__).with_name("same_decode.py")


@dataclass(frozen=True)
class Peers:
    """Copies of the peers' folder.

    Attributes:
        python: The interpreter that has what their load generator needs.
        theirs: With their own decode.
        same: With Trunkline's.
    """

    python: Path
    theirs: Path
    same: Path


def copied(folder: Path, into: Path) -> Peers:
    """Copies the scripts, since one module has to be another and they look for it beside themselves.

    Raises:
        SystemExit: BENCH_HOME is not set, or the folder is another.
    """
    if "BENCH_HOME" not in os.environ:
        raise SystemExit(
            "--peers needs the environment variable BENCH_HOME: where the peers' environments are"
        )
    python = Path(os.environ["BENCH_HOME"]) / "base" / "bin" / "python"
    for needed in (python, folder / "run_all.py", folder / "load.py", folder / "peers" / "common.py"):
        if not needed.exists():
            raise SystemExit(f"--peers: there is no {needed}")
    theirs, same = into / "theirs", into / "same"
    for copy in (theirs, same):
        (copy / "peers").mkdir(parents=True)
        for file in (*folder.glob("*.py"), *folder.glob("*.json"), *folder.glob("peers/*.py")):
            shutil.copyfile(file, copy / file.relative_to(folder))
    scripts = same / "peers"
    (scripts / "common.py").rename(scripts / "common_of_the_peers.py")
    shutil.copyfile(SHIM, scripts / "common.py")
    # Their environments have neither; PIL's libraries lie beside it.
    pillow = Path(PIL.__file__).parent
    packages = [Path(trunkline_service.__file__).parent, pillow, *pillow.parent.glob("[Pp]illow.libs")]
    for package in packages:
        (scripts / package.name).symlink_to(package, target_is_directory=True)
    return Peers(python, theirs, same)
