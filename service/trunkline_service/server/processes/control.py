"""The channel between the supervisor and one child process: a pair of sockets, a line of JSON a message."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading

from trunkline_service.server.processes.messages import Message, dumps, loads

_LONGEST = 16 * 1024 * 1024
# One who does not read for so long does not read any more.
_PATIENCE_S = 5


class Control:
    """One end.

    Any thread may send; one thread receives. That the other end is closed is how either side learns that
    the other has died.

    Args:
        end: Of a pair of stream sockets; it is the channel's from here on.
    """

    def __init__(self, end: socket.socket) -> None:
        end.set_inheritable(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", _PATIENCE_S, 0))
        self._end = end
        self._lines = end.makefile("rb")
        self._sending = threading.Lock()

    def send(self, message: Message) -> bool:
        """Sends; False where the other end is gone, or does not read.

        It waits for a reader a few seconds at most. Half a line can't be taken back, so that a channel on
        which that happened is at its end.
        """
        line = dumps(message)
        if len(line) > _LONGEST:
            raise ValueError(f"a {type(message).__name__} of {len(line)} bytes is too long to be sent")
        with self._sending:
            try:
                self._end.sendall(line)
            except OSError:
                self.end()
                return False
        return True

    def receive(self) -> Message | None:
        """Waits for the next message; None where there will be no more."""
        try:
            line = self._lines.readline(_LONGEST + 1)
        except (OSError, ValueError):
            return None
        # The other end died in the middle of a line, or sends what is none.
        if not line.endswith(b"\n"):
            return None
        return loads(line)

    def end(self) -> None:
        """Ends the channel: both sides receive nothing more."""
        with contextlib.suppress(OSError):
            self._end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Gives the socket back; nobody may be receiving."""
        self._lines.close()
        self._end.close()
