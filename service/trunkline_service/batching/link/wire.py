"""A Unix socket that carries packets; each is one message."""

from __future__ import annotations

import os
import socket
import struct
import threading
from pathlib import Path

from trunkline_service.batching.link.messages import LARGEST, Hello, Message, unpack
from trunkline_service.errors import Unavailable

# Thousands of messages. Who does not read for so long hangs, and must not hold up the device for the others.
_BUFFER = 1 << 20
_SEND_S = 2
_PATIENCE = struct.pack("@ll", _SEND_S, 0)


class Wire:
    """One end of a link; any thread may send, one receives."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        # The number of a closed socket can be another file's a moment later: nobody may use it then.
        self._sending = threading.Lock()
        self._ending = threading.Lock()
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _PATIENCE)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)

    def send(self, message: Message) -> None:
        """Sends one message, whole.

        Raises:
            Unavailable: The other end is away, or does not read; the link is closed then.
        """
        packet = message.pack()
        try:
            with self._sending:
                self._socket.send(packet)
        except OSError as exc:
            self.hang_up()
            raise Unavailable("the process at the other end of the link is away; try again") from exc

    def receive(self) -> Message | None:
        """The next message; None once the link is closed.

        Raises:
            ValueError: A packet that is no message.
        """
        try:
            packet = self._socket.recv(LARGEST)
        except OSError:
            return None
        return unpack(packet) if packet else None

    def hand_over(self, fd: int, size: int) -> None:
        """Sends the memfd of ``size`` bytes, as the first message.

        Raises:
            OSError: The other end is away.
        """
        socket.send_fds(self._socket, [Hello(size).pack()], [fd])

    def take_over(self) -> tuple[int, int] | None:
        """What `hand_over` sent: the descriptor, now this process's to close, and its size; None if nothing came.

        Raises:
            ValueError: The first message was another one.
        """
        try:
            packet, fds, _, _ = socket.recv_fds(self._socket, LARGEST, 1)
        except OSError:
            return None
        if not packet:
            return None
        try:
            message = unpack(packet)
            if not isinstance(message, Hello) or len(fds) != 1:
                raise ValueError("a link that does not begin with its memory")
        except ValueError:
            for fd in fds:
                os.close(fd)
            raise
        return fds[0], message.size

    def hang_up(self) -> None:
        """Ends the link; both sides receive None, and who sends stops waiting."""
        try:
            with self._ending:
                self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            # It was ended from the other side.
            return

    def close(self) -> None:
        """Lets the socket go; for the thread that receives."""
        self.hang_up()
        with self._sending, self._ending:
            self._socket.close()


def connect(address: Path) -> Wire:
    """A link to the process that listens on ``address``.

    Raises:
        OSError: Nobody does.
    """
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        # For as long, too, as those wait who find more links being made than are taken.
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _PATIENCE)
        connected.connect(os.fspath(address))
    except OSError:
        connected.close()
        raise
    return Wire(connected)
