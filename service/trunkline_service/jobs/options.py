"""What a job can be told, what it says while it runs, and what it did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from trunkline_service.errors import InvalidArgument
from trunkline_service.jobs.shard import Shard


@dataclass(frozen=True)
class JobOptions:
    """How a job runs.

    Attributes:
        shard: The part of the source to do.
        retry_failed: Try the error rows of earlier runs again.
        verify: Read every image again and compare its hash, also where size and time are the same.
        prune: Delete the rows whose sources vanished.
        replace: Let an image of another source take over a row with its id.
        max_error_rate: The job stops where more than this share of its images fail.
        commit_rows: Rows of one commit at most; fewer where vectors are long, so that memory is bounded.
        commit_s: Seconds after which fewer are committed, so that a killed job loses no more.

    Raises:
        InvalidArgument: A value out of range.
    """

    shard: Shard = field(default_factory=Shard)
    retry_failed: bool = False
    verify: bool = False
    prune: bool = False
    replace: bool = False
    max_error_rate: float = 0.2
    commit_rows: int = 4096
    commit_s: float = 10.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.max_error_rate <= 1.0:
            raise InvalidArgument(f"max-error-rate is {self.max_error_rate}; it lies between 0 and 1")
        if self.commit_rows < 1 or self.commit_s < 0:
            raise InvalidArgument("a commit takes at least 1 row, and not less than 0 seconds")


@dataclass(frozen=True)
class Progress:
    """How far a job is.

    Attributes:
        done: Images finished in this run, error rows among them.
        total: Images to do in this run; None while the source is still being listed.
        listed: Images that the source has, as far as it was listed.
        errors: Error rows of this run.
        committed: Rows that a kill would not lose.
        seconds: Since it began.
        shares: Of each stage (``read``, ``decode``, ``device``, ``write``): the share of that time in
            which it was busy, 0 to 1. The largest is the bottleneck.
    """

    done: int
    total: int | None
    listed: int
    errors: int
    committed: int
    seconds: float
    shares: Mapping[str, float]

    @property
    def rate(self) -> float:
        """Images a second."""
        return self.done / self.seconds if self.seconds else 0.0

    @property
    def eta_s(self) -> float | None:
        """Seconds until it ends at this rate; None where the total or the rate is not known."""
        if self.total is None or not self.rate:
            return None
        return (self.total - self.done) / self.rate


@dataclass(frozen=True)
class JobResult:
    """What a job did.

    Attributes:
        job: Its id, recorded in every row it wrote.
        collection: Where it wrote.
        model: The model, ``name@version``.
        space_id: The space.
        embedded: Images that got a vector in this run.
        duplicates: Those of them that took the vector of an image with the same bytes.
        touched: Rows whose file is newer and whose bytes are the same: their vectors stayed.
        unchanged: Images that were done before.
        failed_before: Error rows of earlier runs, left as they are.
        errors: Error rows of this run, by reason.
        vanished: Rows whose source is gone; None where the listing was not complete.
        pruned: How many of them were deleted.
        not_pruned: Why they were not, though it was asked for; empty where they were.
        problems: Why images of the source may be missing here.
        stopped: It was asked to stop before the end.
        seconds: Wall-clock time of this run.
        shares: As in `Progress`.
        version: The collection's version at the end.
    """

    job: str
    collection: str
    model: str
    space_id: str
    embedded: int
    duplicates: int
    touched: int
    unchanged: int
    failed_before: int
    errors: dict[str, int]
    vanished: int | None
    pruned: int
    not_pruned: str
    problems: tuple[str, ...]
    stopped: bool
    seconds: float
    shares: dict[str, float]
    version: int
