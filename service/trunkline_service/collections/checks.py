"""What may enter a collection; pure."""

from __future__ import annotations

from collections.abc import Sequence

from trunkline_service.collections.rows import Row
from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.errors import DecodeModeMismatch, InvalidArgument, SpaceMismatch


def check_space(name: str, spec: CollectionSpec, space_id: str) -> None:
    """Refuses vectors of another space.

    Raises:
        SpaceMismatch: Naming both sides.
    """
    if space_id != spec.space_id:
        raise SpaceMismatch(
            f"collection {name!r} holds vectors of space {spec.space_id} ({_made_by(spec)}), these are of "
            f"space {space_id}; use the collection's model, or another collection"
        )


def check_decode(name: str, spec: CollectionSpec, rows: Sequence[Row], decode: str | None) -> None:
    """Refuses vectors of another decode mode, be it the call's or a row's own.

    Raises:
        DecodeModeMismatch: Naming both modes.
    """
    other = next((row for row in rows if row.embedding is not None and row.decode != spec.decode), None)
    if decode in (None, spec.decode) and other is None:
        return
    got = f"these are {decode!r}" if other is None else f"row {other.id!r} is {other.decode!r}"
    raise DecodeModeMismatch(
        f"collection {name!r} holds vectors of decode mode {spec.decode!r}, {got}; "
        f"decode with {spec.decode!r}, or use another collection"
    )


def check_dimension(name: str, spec: CollectionSpec, rows: Sequence[Row]) -> None:
    """Refuses vectors of another dimension.

    Raises:
        InvalidArgument: Naming the row.
    """
    for row in rows:
        if row.embedding is not None and len(row.embedding) != spec.dim:
            raise InvalidArgument(
                f"row {row.id!r}: its embedding has {len(row.embedding)} floats, those of collection "
                f"{name!r} have {spec.dim}"
            )


def _made_by(spec: CollectionSpec) -> str:
    return "declared by hand" if spec.declared else f"model {spec.model}"
