"""Collections, their versions and aliases: proto <-> domain. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from trunkline_protos.v1 import collections_pb2
from trunkline_service.collections.aliases import Alias
from trunkline_service.collections.history import VersionInfo
from trunkline_service.collections.info import CollectionInfo
from trunkline_service.collections.metadata import Scalar
from trunkline_service.collections.purging import Purged
from trunkline_service.collections.spec import CollectionSpec, declared_space
from trunkline_service.collections.upkeep import KEPT, Compacted
from trunkline_service.errors import InvalidArgument
from trunkline_service.models.card import ModelCard
from trunkline_service.server.row_converters import time_to, values_from
from trunkline_service.settings import DecodeMode


class Selection(NamedTuple):
    """Rows by their ids, or by a condition; the other is None."""

    ids: list[str] | None
    where: str | None
    parameters: list[Scalar]


def collection_to(
    info: CollectionInfo, aliases: Iterable[Alias], columns: Mapping[str, str]
) -> collections_pb2.Collection:
    """A collection.

    Args:
        info: What it holds.
        aliases: Of all collections.
        columns: Types by name.
    """
    spec = info.spec
    return collections_pb2.Collection(
        name=info.name,
        version=info.version,
        model=spec.model,
        space_id=spec.space_id,
        dim=spec.dim,
        decode=spec.decode,
        rows=info.rows,
        errors=info.errors,
        labelled=info.labelled,
        labels=[collections_pb2.LabelCount(label=label, rows=rows) for label, rows in info.labels.items()],
        multi_label=spec.multi_label,
        dtype=spec.dtype,
        declared=spec.declared,
        size_bytes=info.size_bytes,
        columns=[collections_pb2.Column(name=name, type=kind) for name, kind in columns.items()],
        created_at=time_to(datetime.fromisoformat(info.created_at)),
        pretrained=spec.pretrained,
        artifact_id=spec.artifact_id,
        aliases=[alias.name for alias in aliases if alias.collection == info.name],
        metric=spec.metric,
    )


def declared_spec_from(request: collections_pb2.CreateCollectionRequest) -> CollectionSpec:
    """The identity of a collection whose space is named by hand.

    Raises:
        InvalidArgument: A model beside the space, or a value that no collection can have.
    """
    if request.model:
        raise InvalidArgument(
            f"collection {request.name!r}: a space is declared where no model makes its vectors; "
            f"leave out the model {request.model!r} or the space {request.space_id!r}"
        )
    return CollectionSpec(
        space_id=declared_space(request.space_id),
        dim=request.dim,
        model="",
        artifact_id="",
        decode=request.decode or "unknown",  # type: ignore[arg-type]  # the spec itself checks both
        dtype=request.dtype or "float32",  # type: ignore[arg-type]
        multi_label=request.multi_label,
        metric=request.metric or "cosine",
        declared=True,
    )


def spec_from(
    request: collections_pb2.CreateCollectionRequest, card: ModelCard, decode: DecodeMode
) -> CollectionSpec:
    """The identity of a collection of a model's vectors.

    Raises:
        InvalidArgument: Another ``dim`` than the model's, or a value that no collection can have.
    """
    if request.dim not in (0, card.dim):
        raise InvalidArgument(
            f"collection {request.name!r}: dim is {request.dim}, model {card.reference} makes vectors of "
            f"{card.dim}; leave dim out"
        )
    return CollectionSpec(
        space_id=card.space_id,
        dim=card.dim,
        model=card.reference,
        artifact_id=card.artifact.artifact_id,
        decode=request.decode or decode,  # type: ignore[arg-type]  # the spec itself checks both
        pretrained=card.pretrained,
        dtype=request.dtype or "float32",  # type: ignore[arg-type]
        multi_label=request.multi_label,
        metric=request.metric or "cosine",
    )


def selection_from(request: collections_pb2.DeleteRowsRequest | collections_pb2.PurgeRequest) -> Selection:
    """Which rows.

    Raises:
        InvalidArgument: Neither ids nor a condition.
    """
    kind = request.WhichOneof("selection")
    if kind == "ids":
        return Selection(list(request.ids.ids), None, [])
    if kind == "condition":
        return condition_from(request.condition)
    raise InvalidArgument("no rows are named: send ids, or a condition")


def condition_from(message: collections_pb2.Condition) -> Selection:
    """The rows that a condition lets through.

    Raises:
        InvalidArgument: It is empty.
    """
    if not message.where.strip():
        raise InvalidArgument("the condition is empty; for all rows, say 'true'")
    return Selection(None, message.where, values_from(message.parameters))


def keep_from(request: collections_pb2.CompactRequest) -> timedelta | None:
    """How long versions stay; None for ever.

    Raises:
        InvalidArgument: No number of seconds, or a number beside keep_all.
    """
    if request.keep_all:
        if request.HasField("keep_seconds"):
            raise InvalidArgument("keep_seconds and keep_all contradict each other; give one of them")
        return None
    if not request.HasField("keep_seconds"):
        return KEPT
    try:
        return timedelta(seconds=request.keep_seconds)
    except (ValueError, OverflowError) as exc:
        raise InvalidArgument(f"keep_seconds is {request.keep_seconds}; it can be zero or more") from exc


def compacted_to(done: Compacted) -> collections_pb2.CompactResponse:
    """What a compaction did."""
    return collections_pb2.CompactResponse(
        collection_version=done.version,
        fragments_before=done.fragments_before,
        fragments_after=done.fragments_after,
        versions_removed=done.versions_removed,
        bytes_freed=done.bytes_freed,
    )


def purged_to(done: Purged) -> collections_pb2.PurgeResponse:
    """What a purge did."""
    return collections_pb2.PurgeResponse(
        rows=done.rows,
        versions_removed=done.versions_removed,
        bytes_freed=done.bytes_freed,
        unowned_files=done.unowned_files,
    )


def version_to(info: VersionInfo) -> collections_pb2.CollectionVersion:
    """One version."""
    return collections_pb2.CollectionVersion(
        version=info.version, created_at=time_to(info.created_at), rows=info.rows, tags=info.tags
    )


def alias_to(alias: Alias) -> collections_pb2.Alias:
    """An alias."""
    return collections_pb2.Alias(name=alias.name, collection=alias.collection, version=alias.version)
