"""See the package."""

from __future__ import annotations

import argparse
import json
import os
import platform
from pathlib import Path

from tests.benchmarks.heads import ridge, serving, solving

COLUMNS = ("what", "measured", "asked")


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the smallest shape of each part")
    parser.add_argument("--only", choices=("solving", "ridge", "serving"))
    parser.add_argument("--flowers", metavar="DATA", help="data folder with a collection `flowers`")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {platform.platform()}\n")
    print("| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|")
    found: list[dict[str, str]] = []
    parts = {
        "solving": lambda: solving.table(arguments.quick, arguments.flowers),
        "ridge": lambda: ridge.table(arguments.quick),
        "serving": lambda: serving.table(arguments.quick),
    }
    for name, part in parts.items():
        if arguments.only not in (None, name):
            continue
        for row in part():
            print("| " + " | ".join(row[column] for column in COLUMNS) + " |", flush=True)
            found.append(row)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
