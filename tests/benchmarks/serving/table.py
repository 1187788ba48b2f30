"""Every server under load, one image a call or several: rounds in turns, each with a raw ceiling of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from tests.benchmarks.serving import made, trunkline
from tests.benchmarks.serving.bench import Bench, Row, with_restarts
from tests.benchmarks.serving.processes import Ended, Hung

MULTI_IMAGES = 16


def table(bench: Bench) -> None:
    """One image a call, Trunkline and the peers."""
    for number in range(bench.rounds):
        _nulls(bench, "table", number, 1)
        for network in bench.networks:
            raw = _raw(bench, "table", number, network)
            servers = [partial(_own, bench, "table", variant, network, 1, raw) for variant in bench.variants]
            servers += [
                partial(_peer, bench, name, network, same)
                for name in bench.peer_names
                for same in ((False, True) if bench.same_decode else (False,))
            ]
            # What warms up or wears off in a round meets the others in the next.
            for measured in servers if number % 2 == 0 else servers[::-1]:
                for row in measured():
                    bench.record(
                        {"kind": "served", "part": "table", "network": network, "round": number} | row
                    )


def multi(bench: Bench) -> None:
    """16 images a call; the peers take one."""
    calls = tuple(c for c in bench.calls if c <= 16)
    for number in range(bench.rounds):
        _nulls(bench, "multi", number, MULTI_IMAGES, calls)
        for network in bench.networks:
            raw = _raw(bench, "multi", number, network)
            for variant in bench.variants if number % 2 == 0 else bench.variants[::-1]:
                for row in _own(bench, "multi", variant, network, MULTI_IMAGES, raw, calls):
                    bench.record(
                        {"kind": "served", "part": "multi", "network": network, "round": number} | row
                    )


def _nulls(bench: Bench, part: str, number: int, images: int, calls: Sequence[int] | None = None) -> None:
    for c in calls or bench.calls:
        about = {"kind": "null", "part": part, "round": number, "images": images}
        try:
            bench.record(about | bench.null(c, images))
        except (Hung, Ended) as trouble:
            bench.record({**about, "c": c, "failed": str(trouble)})


def _raw(bench: Bench, part: str, number: int, network: str) -> Row:
    """Trunkline's ceiling, and that of the peers' decode where it is at hand."""
    about = {"kind": "raw", "part": part, "network": network, "round": number}
    found = bench.raw(network)
    bench.record({**about, "decode": "exact"} | {key: found[key] for key in found if key != "vectors"})
    if bench.peer_names and part == "table":
        try:
            order = {"do": "raw", "onnx": str(bench.onnx(network)), "seconds": max(0.5, bench.seconds / 5)}
            for theirs in bench.generate(**order):
                bench.record({**about, "decode": "peers"} | theirs)
        except (Hung, Ended) as trouble:
            bench.record({**about, "decode": "peers", "failed": str(trouble)})
    return found


def _own(
    bench: Bench,
    part: str,
    variant: trunkline.Variant,
    network: str,
    images: int,
    raw: Row,
    calls: Sequence[int] | None = None,
) -> Iterator[Row]:
    files = made.files(bench.images)
    requests = made.requests(variant.protocol, network, files, images)
    about = {"server": variant.name, "decode": "exact", "images": images, "grpc": True}

    def attempt(left: Sequence[int]) -> Iterator[Row]:
        with trunkline.serving(bench.home, bench.models, network, variant.frontends) as served:
            trunkline.check(served, variant.protocol, network, files, raw["vectors"])
            yield from bench.load(served.url(variant.protocol), served.pid, requests, left, name=part)

    for row in with_restarts(calls or bench.callers(network), attempt):
        yield about | per_image(row, images)


def _peer(bench: Bench, name: str, network: str, same: bool) -> Iterator[Row]:
    assert bench.peers is not None
    folder = str(bench.peers.same if same else bench.peers.theirs)
    order = {
        "do": "peer",
        "peers": folder,
        "name": name,
        "network": network,
        "onnx": str(bench.onnx(network)),
    }
    about = {"server": name, "decode": "exact" if same else "peers", "images": 1}

    def attempt(left: Sequence[int]) -> Iterator[Row]:
        return bench.generate(**order, calls=list(left))

    for row in with_restarts(bench.callers(network), attempt):
        yield about | row


def per_image(row: Row, images: int) -> Row:
    """The generator counts calls; here calls of several images become images."""
    if "failed" in row or images == 1:
        return row
    return row | {
        "img_s": row["img_s"] * images,
        "server_ms_img": row["server_ms_img"] / images,
        "gen_ms_img": row["gen_ms_img"] / images,
    }
