"""One run of a child process, as the supervisor holds it."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator, Sequence

from trunkline_service.server.processes.control import Control
from trunkline_service.server.processes.messages import Message, Start

# One who has closed his channel is about to end.
_LAST_WORDS_S = 5.0


class ChildProcess:
    """Starts one and tells it what it is.

    It is a program of its own, not a copy of this process: copies of a process with threads hang.

    Args:
        command: Runs a child; its part, and the number of its channel's descriptor, are appended.
        start: What it is.

    Raises:
        OSError: It can't be started.
    """

    def __init__(self, command: Sequence[str], start: Start) -> None:
        ours, theirs = socket.socketpair()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - a program of ours
                # The part is there for those who look at a list of processes.
                [*command, start.part, str(theirs.fileno())],
                pass_fds=(theirs.fileno(), start.quota_fd),
                stdin=subprocess.DEVNULL,
                # The line that says where the server listens is the supervisor's.
                stdout=subprocess.DEVNULL,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._control = Control(ours)
        self.send(start)

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def send(self, message: Message) -> bool:
        """Tells it something; False where it is gone, or does not listen."""
        return self._control.send(message)

    def messages(self) -> Iterator[Message]:
        """What it says, until it ends. For one thread."""
        while (message := self._control.receive()) is not None:
            yield message

    def reap(self) -> int:
        """Waits for the end of one that has nothing more to say; returns its status.

        Returns:
            Its exit status, or the negative number of the signal that ended it.
        """
        try:
            status = self._process.wait(_LAST_WORDS_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        self._control.close()
        return status

    def kill(self) -> None:
        """Ends it without a word."""
        self._process.kill()


def described(status: int) -> str:
    """How a process ended, in words."""
    if status >= 0:
        return f"ended with status {status}"
    return f"was ended by signal {-status}" + (" (SIGKILL)" if -status == 9 else "")
