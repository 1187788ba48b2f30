"""Photographs of thousands of pixels, in both decode modes, each beside raw in the same mode."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.benchmarks.serving import made, trunkline
from tests.benchmarks.serving.bench import Bench, Row, with_restarts

CALLERS = 16
MODES = ("exact", "fast")


def photos(bench: Bench) -> None:
    """One photograph a call."""
    folder = made.photographs(bench.home / "photographs")
    kinds = [variant for variant in bench.variants if variant.protocol == "trunkline"]
    for number in range(bench.rounds):
        for network in bench.networks:
            for mode in MODES:
                raw = bench.raw(network, mode, images=folder)
                about = {"part": "photos", "network": network, "round": number, "decode": mode}
                kept = {key: raw[key] for key in raw if key != "vectors"}
                bench.record({"kind": "raw", **about} | kept)
                for variant in kinds:
                    for row in _loaded(bench, variant, network, mode, made.files(folder), raw):
                        more = {"server": f"{variant.name} --decode {mode}", "images": 1}
                        bench.record({"kind": "served", **about, **more} | row)


def _loaded(
    bench: Bench, variant: trunkline.Variant, network: str, mode: str, files: list[bytes], raw: Row
) -> Iterator[Row]:
    requests = made.requests("trunkline", network, files)

    def attempt(left: Sequence[int]) -> Iterator[Row]:
        with trunkline.serving(bench.home, bench.models, network, variant.frontends, mode) as served:
            trunkline.check(served, "trunkline", network, files, raw["vectors"])
            yield from bench.load(served.url("trunkline"), served.pid, requests, left, name="photos")

    return with_restarts((CALLERS,), attempt)
