"""See the package."""

from __future__ import annotations

import argparse
import json
import platform
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.benchmarks.serving import lanes, made, memory, peers, photos, raw, report, start, table, trunkline
from tests.benchmarks.serving.bench import CORES, Bench, Row
from tests.benchmarks.serving.processes import said

PARTS = ("table", "multi", "lanes", "memory", "photos", "start")
TABLES = ("table", "multi", "photos")
NETWORKS = "free,mobilenetv2,resnet50"
QUICK_S, SECONDS, MINUTES_S = 1.0, 3.5, 300.0


def main() -> None:
    """Prints the tables."""
    arguments = _parser().parse_args()
    if arguments.child is not None:
        raw.measure(**json.loads(arguments.child))
        return
    machine = f"{_processor()}, {CORES} cores, {platform.platform()}, Python {platform.python_version()}"
    if arguments.report:
        rows = [json.loads(line) for line in arguments.report.read_text().splitlines()]
        _print_tables(rows, next(row["machine"] for row in rows if row["kind"] == "machine"))
        return
    # So that `finally` stops what was started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    rows: list[Row] = []

    def record(row: Row) -> None:
        rows.append(row)
        print(_told(row), flush=True)
        if arguments.json:
            with arguments.json.open("a") as file:
                file.write(json.dumps(row) + "\n")

    record({"kind": "machine", "machine": machine, "cores": CORES})
    with tempfile.TemporaryDirectory() as home:
        bench = _bench(arguments, Path(home), record)
        parts: dict[str, Callable[[], None]] = {
            "table": lambda: table.table(bench),
            "multi": lambda: table.multi(bench),
            "lanes": lambda: lanes.lanes(bench),
            "memory": lambda: memory.memory(bench, _minutes(arguments)),
            "photos": lambda: photos.photos(bench),
            "start": lambda: start.start(bench),
        }
        try:
            for name in arguments.only or PARTS:
                parts[name]()
        finally:
            _print_tables(rows, machine)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round of few cells: does it run?")
    parser.add_argument("--only", choices=PARTS, action="append", help="may be given several times")
    parser.add_argument("--models", type=Path, metavar="DIR", help="a repository with the networks")
    parser.add_argument("--images", type=Path, metavar="DIR", help="JPEGs of about 640 x 427")
    parser.add_argument("--networks", default=NETWORKS, help="near-free, and backbones with random weights")
    parser.add_argument("--peers", type=Path, metavar="DIR", help="other servers; see the package")
    parser.add_argument("--same-decode", action="store_true", help="peers with Trunkline's decode too")
    parser.add_argument("--servers", help="names of Trunkline's variants and of peers; all if left out")
    parser.add_argument(
        "--frontends", type=int, default=CORES, help="front processes of the variant that has them"
    )
    parser.add_argument("--calls", default="1,16,64", help="callers at once")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument(
        "--seconds", type=float, help=f"of a load [{SECONDS}]; of the part memory [{MINUTES_S:.0f}]"
    )
    parser.add_argument("--warm", type=float, default=0.8, help="seconds before each load that do not count")
    parser.add_argument(
        "--channels", type=int, default=8, help="the generator's gRPC connections, to all alike"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="append a line for everything measured")
    parser.add_argument("--report", type=Path, metavar="FILE", help="only print the tables of such a file")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser


def _bench(arguments: argparse.Namespace, home: Path, record: Callable[[Row], None]) -> Bench:
    networks = tuple(arguments.networks.split(","))
    if arguments.quick and arguments.networks == NETWORKS:
        networks = networks[:1]
    copies = peers.copied(arguments.peers.resolve(), home / "peers") if arguments.peers else None
    own, others = trunkline.variants(arguments.frontends), ()
    if copies is not None:
        order = {"do": "names", "peers": str(copies.theirs)}
        generator = [str(copies.python), str(Path(__file__).with_name("generator.py")), json.dumps(order)]
        ((found),) = said(generator, home / "log.txt", 60)
        others = tuple(found["names"])
    if arguments.servers:
        wanted = arguments.servers.split(",")
        known = {variant.name for variant in own} | set(others)
        if unknown := sorted(set(wanted) - known):
            raise SystemExit(f"--servers: {', '.join(unknown)} is none of {', '.join(sorted(known))}")
        own = tuple(variant for variant in own if variant.name in wanted)
        others = tuple(name for name in others if name in wanted)
    return Bench(
        home=home,
        models=(arguments.models or made.models(home / "models", networks)).resolve(),
        images=(arguments.images or made.jpegs(home / "images")).resolve(),
        networks=networks,
        variants=own,
        peers=copies,
        peer_names=others,
        same_decode=arguments.same_decode,
        calls=tuple(int(c) for c in arguments.calls.split(",")),
        rounds=1 if arguments.quick else arguments.rounds,
        seconds=arguments.seconds or (QUICK_S if arguments.quick else SECONDS),
        warm=arguments.warm,
        channels=arguments.channels,
        retries=0 if arguments.quick else 1,
        record=record,
    )


def _minutes(arguments: argparse.Namespace) -> float:
    return arguments.seconds or (10 * QUICK_S if arguments.quick else MINUTES_S)


def _told(row: Row) -> str:
    """A line while it runs; the tables come at the end."""
    short = {key: row[key] for key in ("part", "network", "server", "decode", "c", "round") if key in row}
    about = f"{row['kind']}: " + ", ".join(f"{key} {value}" for key, value in short.items())
    if "failed" in row:
        return f"{about}: FAILED, {row['failed']}"
    match row["kind"]:
        case "machine":
            return str(row["machine"])
        case "shown":
            return f"{row['what']}: {row['measured']} (asked: {row['asked']})"
        case "raw":
            way, best = max(row["ways"].items(), key=lambda item: item[1]["img_s"])
            return f"{about}: {best['img_s']:.1f} img/s, {best['cpu_ms']:.2f} CPU ms/img ({way})"
    errors = f", {row['errors']} errors {row['first_errors'][:1]}" if row["errors"] else ""
    return (
        f"{about}: {row['img_s']:.1f}/s, p50 {row['p50']:.2f}, p99 {row['p99']:.1f} ms, server "
        f"{row['server_ms_img']:.2f} + generator {row['gen_ms_img']:.2f} CPU ms, others {row['other_cores']:.2f} "
        f"cores, RSS {row['peak_rss_mb']:.0f} MB{errors}"
    )


def _print_tables(rows: list[Row], machine: str) -> None:
    cores = next((row["cores"] for row in rows if row["kind"] == "machine"), CORES)
    print(f"\n{machine}\n")
    for line in report.raw_lines(rows):
        print(line)
    for part in TABLES:
        if any(row["kind"] == "served" and row["part"] == part for row in rows):
            print(f"\n{part}\n")
            print("\n".join(report.served_table(rows, part, cores)))
    print("\n" + "\n".join(report.shown_table(rows)))


def _processor() -> Any:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
