"""The versions of a collection: listed, tagged, restored."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from trunkline_service.collections.handle import Handle, Snapshot
from trunkline_service.collections.names import is_name
from trunkline_service.errors import CollectionNotFound, InvalidArgument, StorageError

_TAG_ATTEMPTS = 5


@dataclass(frozen=True)
class VersionInfo:
    """One version of a collection.

    Attributes:
        version: Its number.
        created_at: When it was committed, UTC.
        rows: Rows of either status.
        tags: Names that it was given, sorted.
    """

    version: int
    created_at: datetime
    rows: int
    tags: tuple[str, ...]


def versions(handle: Handle) -> list[VersionInfo]:
    """See `Collection.versions`."""
    snapshot = handle.open()
    named = _tags(handle, snapshot)
    with handle.errors("read"):
        found = snapshot.dataset.versions()
    infos = [
        VersionInfo(
            version=item["version"],
            # Lance gives local time without a zone.
            created_at=item["timestamp"].astimezone(UTC),
            rows=int(item["metadata"]["total_rows"]),
            tags=tuple(sorted(name for name, version in named.items() if version == item["version"])),
        )
        for item in found
    ]
    return sorted(infos, key=lambda info: -info.version)


def tags(handle: Handle) -> dict[str, int]:
    """See `Collection.tags`."""
    return _tags(handle, handle.open())


def tag(handle: Handle, name: str, version: int | None) -> int:
    """See `Collection.tag`."""
    check_tag(name)
    snapshot = handle.open(version)
    for _ in range(_TAG_ATTEMPTS):
        there = name in _tags(handle, snapshot)
        with handle.errors("tagged"):
            change = snapshot.dataset.tags.update if there else snapshot.dataset.tags.create
            try:
                change(name, snapshot.version)
                return snapshot.version
            except ValueError as exc:
                # Made or deleted by another meanwhile: looked up again.
                if "already exists" not in str(exc) and "does not exist" not in str(exc):
                    raise
        snapshot = handle.open(snapshot.version)
    raise StorageError(
        f"collection {handle.name!r}: others kept changing tag {name!r}; nothing was set, so run it again"
    )


def untag(handle: Handle, name: str) -> None:
    """See `Collection.untag`."""
    snapshot = handle.open()
    absent = CollectionNotFound(f"collection {handle.name!r} has no tag {name!r}")
    if name not in _tags(handle, snapshot):
        raise absent
    with handle.errors("untagged"):
        try:
            snapshot.dataset.tags.delete(name)
        except ValueError as exc:
            if "does not exist" not in str(exc):
                raise
            raise absent from exc


def restore(handle: Handle, version: int) -> int:
    """See `Collection.restore`."""
    snapshot = handle.open(version)
    with handle.errors("restored"):
        snapshot.dataset.restore()
        return snapshot.version


def check_tag(name: str) -> None:
    """Refuses what can't be a tag, in words of Trunkline's: as an alias's word, and as Lance wants it.

    Raises:
        InvalidArgument: Naming it.
    """
    if not is_name(name) or name.isdigit() or ".." in name or name.endswith((".", ".lock")):
        raise InvalidArgument(
            f"{name!r} can't be a tag; use 1 to 100 letters, digits and . _ -, beginning with a letter or a digit, "
            "not all digits, without '..', and not ending with '.' or '.lock'"
        )


def _tags(handle: Handle, snapshot: Snapshot) -> dict[str, int]:
    with handle.errors("read"):
        return {name: int(item["version"]) for name, item in sorted(snapshot.dataset.tags.list().items())}
