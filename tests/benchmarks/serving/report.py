"""Rows of measurements into tables: pure arithmetic over what was recorded."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

Row = dict[str, Any]
QUIET_CORES = 0.15
# (network, callers) -> the least share of raw that is asked of one image a call.
ASKED = {
    ("free", 16): 0.76,
    ("free", 64): 0.76,
    ("mobilenetv2", 16): 0.95,
    ("mobilenetv2", 64): 0.95,
    ("resnet50", 16): 0.98,
}
ASKED_CHARGED, ASKED_MULTI = 0.97, 0.97
ASKED_OVER_ALONE_MS = 0.8
COLUMNS = (
    "network",
    "C",
    "server",
    "img/s",
    "of raw",
    "of raw + call",
    "asked",
    "p50 ms",
    "p99 ms",
    "CPU ms/img",
    "cores",
    "RSS / PSS MB",
    "errors",
)


def charged(raw_img_s: float, call_ms: float, images: int, cores: int) -> float:
    """Images a second that raw would reach if every ``images`` of them cost ``call_ms`` of processor more.

    The raw loop keeps all cores busy, so a call's processor time is spread over them.
    """
    return 1.0 / (1.0 / raw_img_s + call_ms / 1000.0 / images / cores)


def quiet(rows: Iterable[Row]) -> list[Row]:
    """Without rows that others disturbed, where the same cell has one that nobody did."""
    rows = list(rows)
    clean = {_cell(row) for row in rows if row["other_cores"] <= QUIET_CORES}
    return [row for row in rows if row["other_cores"] <= QUIET_CORES or _cell(row) not in clean]


def best_way(raws: Sequence[Row]) -> str:
    """The way with the best median over rounds: a lucky round of another way is no ceiling."""
    return max(raws[0]["ways"], key=lambda way: statistics.median(raw["ways"][way]["img_s"] for raw in raws))


def ceilings(rows: Iterable[Row]) -> dict[tuple[Any, ...], tuple[float, str]]:
    """(part, network, decode, round) -> (images/s, the way)."""
    grouped: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        if row["kind"] == "raw" and "failed" not in row:
            grouped[row["part"], row["network"], row["decode"]].append(row)
    found = {}
    for key, raws in grouped.items():
        way = best_way(raws)
        found.update({(*key, raw["round"]): (raw["ways"][way]["img_s"], way) for raw in raws})
    return found


def call_costs(rows: Iterable[Row]) -> dict[tuple[Any, ...], float]:
    """(part, callers, images, round) -> processor ms of a null call, server and generator together."""
    return {
        (row["part"], row["c"], row["images"], row["round"]): row["server_ms_img"] + row["gen_ms_img"]
        for row in rows
        if row["kind"] == "null" and "failed" not in row
    }


def served_table(rows: Sequence[Row], part: str, cores: int) -> Iterator[str]:
    """Markdown: for each network and number of callers the servers, the fastest first."""
    served = [row for row in rows if row["kind"] == "served" and row["part"] == part]
    answered = [row for row in served if "failed" not in row and row["n"]]
    failed = [row for row in served if row not in answered]
    raws, costs = ceilings(rows), call_costs(rows)
    alone = {(*_about(row), row["round"]): row.get("alone_ms") for row in rows if row["kind"] == "raw"}
    cells: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in quiet(answered):
        row |= {"alone_ms": alone.get((*_about(row), row["round"]))}
        cells[_cell(row)].append(_with_shares(row, raws, costs, cores))
    yield "| " + " | ".join(COLUMNS) + " |"
    yield "|---" * len(COLUMNS) + "|"
    networks = list(dict.fromkeys(row["network"] for row in served))
    order = sorted(cells, key=lambda cell: (networks.index(cell[1]), cell[4], -_median(cells[cell], "img_s")))
    for cell in order:
        yield _line(cells[cell], sum(_cell(row) == cell for row in failed))
    for row in failed:
        if _cell(row) not in cells:
            why = row.get("failed") or f"{row['errors']} errors, no answer: {row['first_errors'][:1]}"
            values = [row["network"], str(row["c"]), _title(row), why] + [""] * (len(COLUMNS) - 4)
            yield "| " + " | ".join(values) + " |"


def raw_lines(rows: Sequence[Row]) -> Iterator[str]:
    """What the shares are shares of, and what a call costs."""
    found = ceilings(rows)
    for key in dict.fromkeys(key[:3] for key in found):
        same = [value for other, value in found.items() if other[:3] == key]
        rates = ", ".join(f"{rate:.1f}" for rate, _ in same)
        part, network, decode = key
        own = [row for row in rows if row["kind"] == "raw" and row.get("alone_ms") and _about(row) == key]
        alone = f"; one image alone {_median(own, 'alone_ms'):.2f} ms" if own else ""
        yield (
            f"raw, {part}, {network}, decode {decode}: {statistics.median(rate for rate, _ in same):.1f} img/s "
            f"({same[0][1]}; rounds {rates}){alone}"
        )
    nulls: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        if row["kind"] == "null" and "failed" not in row:
            nulls[row["part"], row["c"], row["images"]].append(row)
    for (part, c, images), same in nulls.items():
        yield (
            f"null call, {part}, C={c}, {images} image{'s' if images > 1 else ''}: server "
            f"{_median(same, 'server_ms_img'):.3f} + generator {_median(same, 'gen_ms_img'):.3f} CPU ms, "
            f"p50 {_median(same, 'p50'):.2f} ms"
        )


def shown_table(rows: Sequence[Row]) -> Iterator[str]:
    """Markdown of the parts that are no table of servers."""
    shown = [row for row in rows if row["kind"] == "shown"]
    if shown:
        yield "| what | measured | asked |"
        yield "|---|---|---|"
        yield from (f"| {row['what']} | {row['measured']} | {row['asked']} |" for row in shown)


def _with_shares(row: Row, raws: Any, costs: Any, cores: int) -> Row:
    raw = raws.get((row["part"], row["network"], row["decode"], row["round"]))
    cost = costs.get((row["part"], row["c"], row["images"], row["round"]))
    more: Row = {"share": None, "charged": None}
    if raw is not None:
        more["share"] = row["img_s"] / raw[0]
        # An HTTP server has no gRPC call to be charged with.
        if cost is not None and row.get("grpc"):
            more["charged"] = row["img_s"] / charged(raw[0], cost, row["images"], cores)
    return row | more


def _line(rows: list[Row], failed: int) -> str:
    first = rows[0]
    noisy = " (noisy)" if any(row["other_cores"] > QUIET_CORES for row in rows) else ""
    values = [
        first["network"],
        str(first["c"]),
        f"{_title(first)}{noisy}{f' [n={len(rows)}]' if len(rows) > 1 else ''}",
        f"{_median(rows, 'img_s'):.1f}",
        _share(rows, "share"),
        _share(rows, "charged"),
        _asked(first),
        f"{_median(rows, 'p50'):.2f}{_over_alone(rows)}",
        f"{_median(rows, 'p99'):.1f}",
        f"{_median(rows, 'server_ms_img'):.2f}",
        f"{_median(rows, 'server_cores'):.2f}",
        f"{max(row['peak_rss_mb'] for row in rows):.0f} / {max(row['pss_mb'] for row in rows):.0f}",
        f"{sum(row['errors'] for row in rows)}{f', {failed} rounds failed' if failed else ''}",
    ]
    return "| " + " | ".join(values) + " |"


def _over_alone(rows: list[Row]) -> str:
    """How much longer one caller waits than the raw session takes for one image."""
    if rows[0]["c"] != 1 or rows[0]["images"] != 1 or rows[0]["alone_ms"] is None:
        return ""
    return f" (raw {statistics.median(row['p50'] - row['alone_ms'] for row in rows):+.2f})"


def _asked(row: Row) -> str:
    if not row["server"].startswith("trunkline") or row["part"] == "photos":
        return ""
    if row["c"] == 1:
        return f"p50 raw +{ASKED_OVER_ALONE_MS}" if row["images"] == 1 else ""
    if row["images"] > 1:
        return f"{ASKED_MULTI}"
    least = ASKED.get((row["network"], row["c"]))
    return "" if least is None else f"{least} / {ASKED_CHARGED}"


def _title(row: Row) -> str:
    same = not row["server"].startswith("trunkline") and row["decode"] == "exact"
    return f"{row['server']}, same decode" if same else row["server"]


def _share(rows: list[Row], figure: str) -> str:
    found = [row[figure] for row in rows if row[figure] is not None]
    return f"{statistics.median(found):.2f}" if found else ""


def _median(rows: list[Row], figure: str) -> float:
    return statistics.median(row[figure] for row in rows)


def _about(row: Row) -> tuple[Any, ...]:
    return row["part"], row["network"], row["decode"]


def _cell(row: Row) -> tuple[Any, ...]:
    return row["part"], row["network"], row["server"], row["decode"], row["c"], row["images"]
