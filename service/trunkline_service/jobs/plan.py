"""What a job still has to do: the anti-join of a source and what the collection holds. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from trunkline_service.collections.rows import RowState
from trunkline_service.jobs.sources import SourceItem


@dataclass(frozen=True)
class Plan:
    """The work, and what is done already.

    Attributes:
        todo: New and changed images (and failed ones, if they are retried).
        done: Rows that are as their files are.
        failed_before: Error rows that are left as they are.
    """

    todo: tuple[SourceItem, ...]
    done: int
    failed_before: int


def make_plan(
    items: Sequence[SourceItem], states: Mapping[str, RowState], retry_failed: bool = False
) -> Plan:
    """Compares size and modification time of each file with what its row recorded."""
    todo: list[SourceItem] = []
    done = failed = 0
    for item in items:
        state = states.get(item.id)
        changed = state is None or (state.size, state.mtime) != (item.size, item.mtime)
        if state is None or changed or (state.status == "error" and retry_failed):
            todo.append(item)
        elif state.status == "error":
            failed += 1
        else:
            done += 1
    return Plan(tuple(todo), done, failed)


def chunks(items: Iterable[SourceItem], most_images: int, most_bytes: int) -> Iterator[list[SourceItem]]:
    """Cuts items into chunks within both bounds; an item larger than ``most_bytes`` goes alone."""
    chunk: list[SourceItem] = []
    size = 0
    for item in items:
        if chunk and (len(chunk) == most_images or size + item.size > most_bytes):
            yield chunk
            chunk, size = [], 0
        chunk.append(item)
        size += item.size
    if chunk:
        yield chunk
