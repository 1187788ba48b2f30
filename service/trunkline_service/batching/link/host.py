"""The device's own process as the others see it: takes their pixels, runs them, answers."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from trunkline_service.batching.cache import EmbeddingCache
from trunkline_service.batching.device import LocalDevice
from trunkline_service.batching.link.peer import Peer
from trunkline_service.batching.link.wire import Wire
from trunkline_service.models.registry import Models

_log = logging.getLogger(__name__)
# Loading a model takes one of them, for each link that wants it, for as long as it takes.
_ANSWERING = 32
_PAUSE_S = 0.1
_BACKLOG = 128


class DeviceHost:
    """Serves links on a Unix socket.

    Args:
        device: Runs the models.
        models: What it runs.
        address: Path of the socket, in a folder that nobody else can enter; it is made here.
        cache: Where claims are answered from; None for none.
    """

    def __init__(
        self,
        device: LocalDevice,
        models: Models,
        address: Path,
        cache: EmbeddingCache | None = None,
    ) -> None:
        self._device = device
        self._models = models
        self._cache = cache
        self._guard = threading.Lock()
        self._peers: set[Peer] = set()
        self._ending = threading.Event()
        self._answering = ThreadPoolExecutor(_ANSWERING, thread_name_prefix="answer")
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # Of a process that was killed.
        address.unlink(missing_ok=True)
        self._listening.bind(os.fspath(address))
        self._listening.listen(_BACKLOG)
        self._accepting = threading.Thread(target=self._accept, name="links", daemon=True)

    def start(self) -> None:
        """Takes links from now on."""
        self._accepting.start()

    def close(self) -> None:
        """Ends every link; what is under way there fails at the other end."""
        with self._guard:
            self._ending.set()
            peers = list(self._peers)
        with contextlib.suppress(OSError):
            # Wakes the thread that accepts.
            self._listening.shutdown(socket.SHUT_RDWR)
        if self._accepting.ident is not None:
            self._accepting.join()
        self._listening.close()
        for peer in peers:
            peer.wire.hang_up()
        self._answering.shutdown(cancel_futures=True)

    def answer(self, peer: Peer, question: dict[str, Any]) -> dict[str, Any]:
        """The answer to a question of a peer.

        Raises:
            TrunklineError: What the device raises.
        """
        if "open" in question:
            batcher = self._device.open(question["open"])
            return {"model": peer.number_of(batcher), "card": batcher.card.dumps()}
        if "loaded" in question:
            return {"loaded": self._models.loaded()}
        if "trouble" in question:
            return {"trouble": self._device.trouble()}
        raise ValueError(f"a link asks {sorted(question)}, which nobody knows")

    def _accept(self) -> None:
        while True:
            try:
                connected, _ = self._listening.accept()
            except OSError as exc:
                if self._ending.is_set():
                    return
                # Too many open files, say: those that are linked go on, and later ones may find room.
                _log.error("a link could not be taken: %s", exc)
                self._ending.wait(_PAUSE_S)
                continue
            peer = Peer(Wire(connected), self, self._answering, self._cache)
            with self._guard:
                if self._ending.is_set():
                    peer.wire.close()
                    return
                self._peers.add(peer)
            threading.Thread(target=self._serve, args=(peer,), name="link", daemon=True).start()

    def _serve(self, peer: Peer) -> None:
        try:
            peer.read()
        except Exception:  # noqa: BLE001 - a defect or a stranger: this link ends, the others go on
            _log.exception("a link is closed")
        finally:
            peer.wire.close()
            peer.abandon()
            with self._guard:
                self._peers.discard(peer)
