"""The calls about collections that are one request: made, described, versions, tags, aliases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from google.protobuf import timestamp_pb2

from trunkline._wire import methods
from trunkline._wire.question import Question
from trunkline._wire.scalars import check_text, new_value_to, values_to
from trunkline.collections import AliasInfo, CollectionInfo, Compacted, Purged, VersionInfo, Written
from trunkline.exceptions import InvalidRequest
from trunkline.rows import Label, Scalar
from trunkline_protos.v1 import collections_pb2


def collections() -> Question[list[CollectionInfo]]:
    """All collections of the server."""
    return Question(
        methods.LIST_COLLECTIONS,
        collections_pb2.ListCollectionsRequest(),
        lambda reply: [collection_info(message) for message in reply.collections],
    )


def collection(reference: str) -> Question[CollectionInfo]:
    """One collection."""
    request = collections_pb2.GetCollectionRequest(collection=reference)
    return Question(methods.GET_COLLECTION, request, collection_info)


def create(
    name: str,
    model: str,
    space_id: str | None,
    dim: int | None,
    dtype: str,
    multi_label: bool,
    decode: str,
    metric: str,
) -> Question[CollectionInfo]:
    """A new collection.

    Raises:
        InvalidRequest: A space without ``dim``, or with a model.
    """
    if space_id is not None and (model or not space_id or not dim):
        raise InvalidRequest(
            f"space_id is {space_id!r}, model {model!r}, dim {dim!r}: a declared space has a name and a dim, and "
            "no model"
        )
    request = collections_pb2.CreateCollectionRequest(
        name=name,
        model=model,
        space_id=space_id or "",
        dim=dim or 0,
        dtype=dtype,
        multi_label=multi_label,
        decode=decode,
        metric=metric,
    )
    return Question(methods.CREATE_COLLECTION, request, collection_info)


def drop(name: str) -> Question[None]:
    """A collection that goes."""
    return Question(methods.DROP_COLLECTION, collections_pb2.DropCollectionRequest(collection=name), _nothing)


def relabel_where(
    name: str, value: Label | Scalar, where: str, parameters: Sequence[Scalar], column: str
) -> Question[Written]:
    """One value for all rows of a condition.

    Raises:
        InvalidRequest: A value or a parameter that no column can hold.
    """
    change = collections_pb2.ChangeWhere(
        condition=condition(where, parameters), value=new_value_to(value, f"the new {column}")
    )
    request = collections_pb2.RelabelRequest(collection=name, column=column, where=change)
    return Question(methods.RELABEL, request, written)


def delete_where(name: str, where: str, parameters: Sequence[Scalar]) -> Question[Written]:
    """Rows of a condition that go.

    Raises:
        InvalidRequest: A parameter that no column can hold.
    """
    request = collections_pb2.DeleteRowsRequest(collection=name, condition=condition(where, parameters))
    return Question(methods.DELETE_ROWS, request, written)


def purge(
    name: str, ids: Iterable[str] | None, where: str | None, parameters: Sequence[Scalar], exclusive: bool
) -> Question[Purged]:
    """Rows that go from every version.

    Raises:
        InvalidRequest: Not exactly one of ids and a condition.
    """
    request = collections_pb2.PurgeRequest(collection=name, exclusive=exclusive)
    if check_selection(ids, where, parameters) is None:
        request.condition.CopyFrom(condition(where or "", parameters))
    else:
        request.ids.SetInParent()
        request.ids.ids.extend(id_list(ids))
    return Question(
        methods.PURGE,
        request,
        lambda reply: Purged(reply.rows, reply.versions_removed, reply.bytes_freed, reply.unowned_files),
    )


def compact(name: str, keep_seconds: float | None, keep_all: bool) -> Question[Compacted]:
    """Files that are rewritten."""
    request = collections_pb2.CompactRequest(collection=name, keep_seconds=keep_seconds, keep_all=keep_all)
    return Question(
        methods.COMPACT,
        request,
        lambda reply: Compacted(
            version=reply.collection_version,
            fragments_before=reply.fragments_before,
            fragments_after=reply.fragments_after,
            versions_removed=reply.versions_removed,
            bytes_freed=reply.bytes_freed,
        ),
    )


def versions(name: str) -> Question[list[VersionInfo]]:
    """The versions of a collection."""
    return Question(
        methods.LIST_VERSIONS,
        collections_pb2.ListVersionsRequest(collection=name),
        lambda reply: [
            VersionInfo(entry.version, _moment(entry.created_at), entry.rows, tuple(entry.tags))
            for entry in reply.versions
        ],
    )


def tag(name: str, word: str, version: int | None) -> Question[int]:
    """A name for a version."""
    request = collections_pb2.SetTagRequest(collection=name, tag=word, version=check_version(version))
    return Question(methods.SET_TAG, request, lambda reply: int(reply.version))


def untag(name: str, word: str) -> Question[None]:
    """A name of a version that goes."""
    request = collections_pb2.DeleteTagRequest(collection=name, tag=word)
    return Question(methods.DELETE_TAG, request, _nothing)


def restore(name: str, version: int) -> Question[int]:
    """An old version that becomes the latest."""
    request = collections_pb2.RestoreRequest(collection=name, version=check_version(version))
    return Question(methods.RESTORE, request, lambda reply: int(reply.collection_version))


def aliases() -> Question[list[AliasInfo]]:
    """All aliases."""
    return Question(
        methods.LIST_ALIASES,
        collections_pb2.ListAliasesRequest(),
        lambda reply: [alias_info(message) for message in reply.aliases],
    )


def set_alias(name: str, target: str, version: int | None) -> Question[AliasInfo]:
    """An alias that is made or moved."""
    alias = collections_pb2.Alias(name=name, collection=target, version=check_version(version))
    return Question(methods.SET_ALIAS, collections_pb2.SetAliasRequest(alias=alias), alias_info)


def delete_alias(name: str) -> Question[None]:
    """An alias that goes."""
    return Question(methods.DELETE_ALIAS, collections_pb2.DeleteAliasRequest(alias=name), _nothing)


def check_selection(
    ids: Iterable[str] | None, where: str | None, parameters: Sequence[Scalar]
) -> Iterable[str] | None:
    """``ids`` itself, where the rows are named by ids and not by a condition.

    Raises:
        InvalidRequest: Not exactly one of them, or parameters without a condition.
    """
    if (ids is None) == (where is None):
        raise InvalidRequest(
            f"pass exactly one of ids and where; {'none' if ids is None else 'both'} was given"
        )
    if where is None and len(parameters):
        raise InvalidRequest("parameters are given, and no where to put them into")
    return ids


def check_change(
    labels: Mapping[str, Label | Scalar] | None,
    label: Label | Scalar,
    where: str | None,
    parameters: Sequence[Scalar],
) -> Mapping[str, Label | Scalar] | None:
    """``labels`` itself, where the new values are given by id and not by a condition.

    Raises:
        InvalidRequest: Not exactly one of them, or what belongs to the other.
    """
    if (labels is None) == (where is None):
        raise InvalidRequest(
            f"pass exactly one of labels by id and where; {'none' if labels is None else 'both'} was given"
        )
    if where is None and (label is not None or len(parameters)):
        raise InvalidRequest("label and parameters belong to where, and none is given")
    if labels is not None and not isinstance(labels, Mapping):
        raise InvalidRequest(f"labels is a {type(labels).__name__}; pass a dict of labels by id")
    return labels


def check_version(version: int | None) -> int | None:
    """``version`` itself.

    Raises:
        InvalidRequest: No positive integer.
    """
    if version is not None and not (isinstance(version, int) and 0 < version < 2**63):
        raise InvalidRequest(f"version is {version!r}; it must be a positive integer")
    return version


def id_list(ids: Iterable[str] | None) -> list[str]:
    """Ids as a list; a lone text is one id.

    Raises:
        InvalidRequest: One that is no text.
    """
    names = [ids] if isinstance(ids, str) else list(ids or ())
    return [check_text(name, f"ids[{index}]") for index, name in enumerate(names)]


def condition(where: str, parameters: Sequence[Scalar]) -> collections_pb2.Condition:
    """A condition with its parameters.

    Raises:
        InvalidRequest: A parameter that no column can hold.
    """
    return collections_pb2.Condition(where=where, parameters=values_to(parameters))


def written(reply: collections_pb2.RelabelResponse | collections_pb2.DeleteRowsResponse) -> Written:
    """What a change of rows did."""
    return Written(rows=reply.rows, version=reply.collection_version)


def alias_info(message: collections_pb2.Alias) -> AliasInfo:
    """An alias as the server describes it."""
    version = message.version if message.HasField("version") else None
    return AliasInfo(message.name, message.collection, version)


def collection_info(message: collections_pb2.Collection) -> CollectionInfo:
    """A collection as the server describes it."""
    return CollectionInfo(
        name=message.name,
        version=message.version,
        model=message.model,
        space_id=message.space_id,
        dim=message.dim,
        decode=message.decode,
        rows=message.rows,
        errors=message.errors,
        labelled=message.labelled,
        labels={entry.label: entry.rows for entry in message.labels},
        multi_label=message.multi_label,
        dtype=message.dtype,
        declared=message.declared,
        size_bytes=message.size_bytes,
        columns={column.name: column.type for column in message.columns},
        created_at=_moment(message.created_at) if message.HasField("created_at") else None,
        # Of vectors that were brought in nothing is known.
        pretrained=message.pretrained and not message.declared,
        artifact_id=message.artifact_id,
        aliases=tuple(message.aliases),
        # Of a server that knows no other.
        metric=message.metric or "cosine",
    )


def _moment(message: timestamp_pb2.Timestamp) -> datetime:
    moment: datetime = message.ToDatetime(tzinfo=UTC)
    return moment


def _nothing(_reply: Any) -> None:
    """Of a call whose answer says no more than that it was done."""
