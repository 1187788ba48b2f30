"""Lists the folders of a tree side by side, while what was found is used already."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from trunkline_service.jobs.sources.stores import Entry

_BATCH = 500
_BATCHES_AHEAD = 32


@dataclass(frozen=True)
class Unlisted:
    """A folder that could not be listed, or not to its end.

    Attributes:
        folder: Its path in the store.
        reason: What the store's driver raised.
    """

    folder: str
    reason: Exception


@dataclass(frozen=True)
class _Listed:
    """A folder that is done."""

    folders: list[str]
    failure: Unlisted | None


def list_below(
    entries: Callable[[str], Iterable[Entry]],
    root: str,
    may_enter: Callable[[str], bool],
    threads: int,
) -> Iterator[Entry | Unlisted]:
    """The files below a folder, in no certain order.

    Threads fill a bounded queue and wait when it is full; they end when the iterator is closed.

    Args:
        entries: Lists one folder; called by several threads at once.
        root: Where to begin.
        may_enter: Which folders below are listed.
        threads: How many.
    """
    found: queue.Queue[list[Entry] | _Listed] = queue.Queue(_BATCHES_AHEAD)
    stop = threading.Event()
    # The last first, so that what waits stays about as long as the tree is deep.
    waiting, running = [root], 0
    with ThreadPoolExecutor(threads, thread_name_prefix="listing") as pool:
        try:
            while waiting or running:
                while waiting and running < threads:
                    pool.submit(_list_one, entries, waiting.pop(), found, stop)
                    running += 1
                message = found.get()
                if isinstance(message, _Listed):
                    running -= 1
                    waiting += filter(may_enter, message.folders)
                    if message.failure is not None:
                        yield message.failure
                else:
                    yield from message
        finally:
            stop.set()
            # Each thread ends with a message, for which there may be no room.
            while running:
                running -= isinstance(found.get(), _Listed)


def _list_one(
    entries: Callable[[str], Iterable[Entry]],
    folder: str,
    found: queue.Queue[list[Entry] | _Listed],
    stop: threading.Event,
) -> None:
    folders: list[str] = []
    files: list[Entry] = []
    failure = None
    try:
        for entry in entries(folder):
            if stop.is_set():
                break
            if entry.is_folder:
                folders.append(entry.path)
            # Object stores list a folder's own marker, an empty object, among its files.
            elif entry.path.rstrip("/") != folder:
                files.append(entry)
            if len(files) == _BATCH:
                found.put(files)
                files = []
        if files:
            found.put(files)
    except Exception as exc:  # noqa: BLE001 - drivers raise errors of their own libraries
        failure = Unlisted(folder, exc)
    finally:
        found.put(_Listed(folders, failure))
