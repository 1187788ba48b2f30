"""Searches that nobody waits for any more."""

from __future__ import annotations

from collections.abc import Callable

from trunkline_service.errors import Cancelled


def never() -> bool:
    """Nobody calls it off."""
    return False


def check_wanted(cancelled: Callable[[], bool]) -> None:
    """Does nothing while somebody waits for the search.

    Raises:
        Cancelled: ``cancelled`` said that nobody does.
    """
    if cancelled():
        raise Cancelled("the search was called off; nothing was answered")
