"""Which of the compared models to take, and why. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# A corrected p-value below this makes a difference significant.
ALPHA = 0.05
# Two timings of one model on a busy machine were seen to differ by up to an eighth: below a fifth, a lead
# may be gone in the next run, and the choice with it.
CLEARLY_FASTER = 1.2


@dataclass(frozen=True)
class Standing:
    """What the choice is made by.

    Attributes:
        model: ``name@version``.
        accuracy: Out-of-fold.
        images_per_second: On this machine.
        size_bytes: Of ``model.onnx``.
        p_value: Against the most accurate, corrected for the number of models; None for that one itself.
    """

    model: str
    accuracy: float
    images_per_second: float
    size_bytes: int
    p_value: float | None = None

    @property
    def worse(self) -> bool:
        """Whether it is significantly less accurate than the best."""
        return self.p_value is not None and self.p_value < ALPHA


def ranked(standings: Sequence[Standing]) -> list[int]:
    """Positions, most accurate first; among equals the faster, then the smaller, then the earlier one."""

    def key(position: int) -> tuple[float, float, int, int]:
        standing = standings[position]
        return -standing.accuracy, -standing.images_per_second, standing.size_bytes, position

    return sorted(range(len(standings)), key=key)


def pick(standings: Sequence[Standing]) -> int:
    """The position of the model to take: of those not significantly worse than the best, the fastest.

    Only a clear lead counts: who is not clearly faster than the best is not taken instead of it, and of
    several that the fastest does not clearly lead, the most accurate is taken.

    Args:
        standings: At least one, in the order of ``ranked``.
    """
    least = CLEARLY_FASTER * standings[0].images_per_second
    faster = [
        position
        for position, standing in enumerate(standings)
        if not standing.worse and standing.images_per_second > least
    ]
    if not faster:
        return 0
    enough = max(standings[position].images_per_second for position in faster) / CLEARLY_FASTER
    return next(position for position in faster if standings[position].images_per_second >= enough)


def reason(standings: Sequence[Standing], rows: int) -> str:
    """What ``pick`` takes and why, in a sentence.

    Args:
        standings: As for ``pick``.
        rows: Images that the accuracies are over.
    """
    best, taken = standings[0], standings[pick(standings)]
    near = [standing.model for standing in standings[1:] if not standing.worse]
    if len(standings) == 1:
        return f"{best.model}: the only model given, with an accuracy of {best.accuracy:.3f}"
    if not near:
        return f"{best.model}: the most accurate ({best.accuracy:.3f}), and significantly so"
    if taken is best:
        return (
            f"{best.model}: none is more accurate ({best.accuracy:.3f}), and of those not significantly worse "
            f"({', '.join(near)}) none is clearly faster"
        )
    return (
        f"{taken.model}: {taken.images_per_second / best.images_per_second:.1f} times as fast as {best.model}, "
        f"which was right more often ({best.accuracy:.3f} against {taken.accuracy:.3f}), but by no more than "
        f"chance explains over {rows:,} images (p = {taken.p_value:.3g})"
    )
