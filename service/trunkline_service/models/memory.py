"""How much memory this process may still take."""

from __future__ import annotations

from pathlib import Path

_HOST = Path("/proc/meminfo")
_GROUPS = Path("/sys/fs/cgroup")
# Limit, use, and what of the use the kernel gives back when asked: version 2 of control groups, then 1.
_FILES = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    (
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
        "total_inactive_file",
    ),
)
_KIB = 1024


def available_bytes(host: Path = _HOST, groups: Path = _GROUPS) -> int | None:
    """Bytes that can be taken without swapping, the limit of a container included; None where nobody says.

    Args:
        host: The kernel's figures of the machine.
        groups: Root of this process's control groups, as a container sees it.
    """
    found = [of_group for names in _FILES if (of_group := _of_group(groups, *names)) is not None]
    if (available := _figure(host, "MemAvailable:")) is not None:
        found.append(available * _KIB)
    return min(found, default=None)


def _of_group(root: Path, limit: str, use: str, statistics: str, reclaimable: str) -> int | None:
    try:
        most, now = (root / limit).read_text().strip(), (root / use).read_text().strip()
    except OSError:
        return None
    if not most.isdecimal() or not now.isdecimal():
        # "max": there is no limit.
        return None
    return int(most) - int(now) + (_figure(root / statistics, reclaimable) or 0)


def _figure(path: Path, name: str) -> int | None:
    """The whole number that stands beside a name."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    words = [line.split() for line in lines]
    return next((int(found[1]) for found in words if len(found) > 1 and found[0] == name), None)
