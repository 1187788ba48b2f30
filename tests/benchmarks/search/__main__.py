"""See the package."""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.benchmarks.search import flat, fresh, large, refresh

COLUMNS = ("what", "measured", "asked")
CHILDREN: dict[str, Callable[..., None]] = {
    "serve": flat.serve,
    "large": large.measure,
    "write": fresh.write,
}
QUICK_ROWS, ROWS = 20_000, 1_000_000


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small shapes, few rounds: does it run?")
    parser.add_argument("--only", choices=("flat", "large", "fresh", "refresh"))
    parser.add_argument("--rows", type=int, help="of the large collections")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of ours and of all others")
    parser.add_argument("--flowers", metavar="DATA", help="data folder with a collection `flowers`")
    parser.add_argument("--peers", metavar="PYTHON", help="interpreter with hnswlib and usearch")
    parser.add_argument("--home", type=Path, metavar="FOLDER", help="keep the collections here")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child is not None:
        kind, given = arguments.child
        CHILDREN[kind](**json.loads(given))
        return
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {platform.platform()}"
    print(f"{machine}, {arguments.threads} threads\n")
    print("| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|")
    found = []
    with tempfile.TemporaryDirectory() as temporary:
        for row in _rows(arguments, arguments.home or Path(temporary)):
            print("| " + " | ".join(row[column] for column in COLUMNS) + " |", flush=True)
            found.append(row)
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"\nload average {load}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine, "load": load, "rows": found}, indent=1))


def _rows(arguments: argparse.Namespace, home: Path) -> Iterator[dict[str, str]]:
    quick, threads = arguments.quick, arguments.threads
    rows = arguments.rows or (QUICK_ROWS if quick else ROWS)
    # Collections of another size are others.
    parts: dict[str, Callable[[Path], Iterator[dict[str, str]]]] = {
        "flat": lambda folder: flat.table(folder, quick, threads),
        "large": lambda folder: large.table(folder, quick, rows, threads, arguments.flowers, arguments.peers),
        "fresh": lambda folder: fresh.table(folder, quick, rows, threads),
        "refresh": lambda folder: refresh.table(folder, quick, threads),
    }
    for name, part in parts.items():
        if arguments.only in (None, name):
            folder = home / f"{name}-{'quick' if quick else 'whole'}-{rows}"
            folder.mkdir(parents=True, exist_ok=True)
            yield from part(folder)


if __name__ == "__main__":
    main()
