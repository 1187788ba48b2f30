"""What sync and async calls have in common: a target, options, and what is remembered of the server."""

from __future__ import annotations

import itertools
from typing import Any

from trunkline._options import Options, Rim
from trunkline._wire.chunks import Limits
from trunkline._wire.job import Job
from trunkline._wire.retry import Attempts, RetryPolicy
from trunkline.values import ServerInfo


class Plan:
    """How often to try, how much to send, and over which connection; makes no call.

    Attributes:
        closed: Whether the client was closed.
    """

    def __init__(self, target: str, options: Options, rim: Rim) -> None:
        self.closed = False
        self._target = target
        self._options = options
        self._rim = rim
        self._info: ServerInfo | None = None
        self._turns = itertools.count()

    def __str__(self) -> str:
        return f"{self._target!r}{', closed' if self.closed else ''}"

    def check_open(self) -> None:
        """Does nothing while the client is open.

        Raises:
            RuntimeError: It was closed.
        """
        if self.closed:
            raise RuntimeError("this client is closed; open another")

    def _limits(self, job: Job[Any], info: ServerInfo) -> Limits:
        return job.limits(info, self._options.chunk_bytes, self._options.chunk_images)

    def _attempts(
        self, timeout: float | None, items: range | None = None, policy: RetryPolicy | None = None
    ) -> Attempts:
        seconds = self._options.timeout if timeout is None else timeout
        policy = policy or RetryPolicy(self._options.retries)
        return Attempts(policy, seconds, self._rim.clock, self._rim.random, items)
