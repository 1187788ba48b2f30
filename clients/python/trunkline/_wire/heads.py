"""Fitting, naming and moving heads: requests, and what their replies mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from google.protobuf.message import Message

from trunkline._wire import methods
from trunkline._wire.catalog import card_of
from trunkline._wire.methods import Method
from trunkline._wire.question import Question, Series, Stream
from trunkline._wire.status import Refusal
from trunkline.exceptions import InvalidRequest
from trunkline.heads import HeadInfo, Migration
from trunkline.values import ServerInfo
from trunkline_protos.v1 import heads_pb2

M = TypeVar("M", heads_pb2.FitProgress, heads_pb2.MigrateProgress)


def heads() -> Question[list[HeadInfo]]:
    """All heads of the server."""
    return Question(
        methods.LIST_HEADS, heads_pb2.ListHeadsRequest(), lambda reply: [head_info(h) for h in reply.heads]
    )


def head(reference: str) -> Question[HeadInfo]:
    """One head."""
    return Question(methods.GET_HEAD, heads_pb2.GetHeadRequest(head=reference), head_info)


def promote(name: str, version: int) -> Question[HeadInfo]:
    """A version is to serve."""
    request = heads_pb2.PromoteRequest(head=name, version=_version(version))
    return Question(methods.PROMOTE, request, head_info)


def delete(reference: str) -> Question[None]:
    """A version or a whole head is to go."""
    return Question(methods.DELETE_HEAD, heads_pb2.DeleteHeadRequest(head=reference), lambda _: None)


def set_alias(alias: str, version: int) -> Question[HeadInfo]:
    """An alias is to stand for a version."""
    name, word = _split(alias)
    request = heads_pb2.SetHeadAliasRequest(head=name, alias=word, version=_version(version))
    return Question(methods.SET_HEAD_ALIAS, request, head_info)


def delete_alias(alias: str) -> Question[HeadInfo]:
    """An alias is to go."""
    name, word = _split(alias)
    request = heads_pb2.DeleteHeadAliasRequest(head=name, alias=word)
    return Question(methods.DELETE_HEAD_ALIAS, request, head_info)


def set_shadow(name: str, version: int | None) -> Question[HeadInfo]:
    """A candidate is to run beside, or none."""
    wanted = 0 if version is None else _version(version)
    return Question(methods.SET_SHADOW, heads_pb2.SetShadowRequest(head=name, version=wanted), head_info)


class Rollback(Series[HeadInfo, HeadInfo]):
    """The version that served before is to serve again.

    What serves is asked for first, so that an attempt whose answer was lost is not made twice.

    Args:
        name: Of the head.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._serving: int | None = None

    def questions(self, info: ServerInfo) -> Iterator[Question[HeadInfo]]:  # noqa: ARG002 - few and small
        """What serves, and the move away from it."""
        yield Question(methods.GET_HEAD, heads_pb2.GetHeadRequest(head=self._name), self._read)
        request = heads_pb2.RollbackRequest(head=self._name, serving_version=self._serving or 0)
        yield Question(methods.ROLLBACK, request, head_info)

    def merge(self, answers: Sequence[HeadInfo]) -> HeadInfo:
        """What serves now."""
        return answers[-1]

    def _read(self, reply: heads_pb2.Head) -> HeadInfo:
        found = head_info(reply)
        self._serving = found.serving
        return found


class Work(Stream[M]):
    """A call that reports how far it is, and ends with its result.

    Args:
        method: The call.
        request: What it sends.
        name: Of the head, for messages.
    """

    def __init__(self, method: Method[Any, M], request: Message, name: str) -> None:
        self.method = method
        self.request = request
        self._name = name
        self._begun = False

    @property
    def begun(self) -> bool:
        """Whether it had begun."""
        return self._begun

    @property
    def progress(self) -> str:
        """How it can go on."""
        return f"unless it was at its very end nothing was saved; head({self._name!r}) tells"

    def words(self, refusal: Refusal) -> str:
        """Nothing where the server itself said why."""
        return "" if refusal.reason else self.progress

    def read(self, reply: M) -> M:
        """The message itself."""
        self._begun = True
        return reply


def fit(request: heads_pb2.FitRequest, options: Mapping[str, Any]) -> Work[heads_pb2.FitProgress]:
    """A head is to be fitted.

    Args:
        request: All but the options.
        options: Those that the caller gives; None for the kind's own choice.

    Raises:
        InvalidRequest: An option that can't be used.
    """
    for name, value in options.items():
        if value is None:
            continue
        try:
            if name == "grid":
                request.options.grid.extend(value)
            else:
                setattr(request.options, name, value)
        except (TypeError, ValueError) as exc:
            raise InvalidRequest(f"{name} is {value!r}, which can't be used: {exc}") from exc
    return Work(methods.FIT, request, request.name)


def migrate(reference: str, collection: str, promote: bool) -> Work[heads_pb2.MigrateProgress]:
    """A head is to be fitted anew on another collection; with ``promote`` it is to serve."""
    request = heads_pb2.MigrateRequest(head=reference, collection=collection, promote=promote)
    return Work(methods.MIGRATE, request, reference)


def head_info(message: heads_pb2.Head) -> HeadInfo:
    """A head as the server describes it."""
    return HeadInfo(
        name=message.name,
        version=message.version,
        kind=message.kind,
        space_id=message.space_id,
        model=message.model,
        classes=tuple(message.classes),
        accuracy=message.accuracy if message.HasField("accuracy") else None,
        collection=message.collection,
        collection_version=message.collection_version,
        card=card_of(message.card_json, f"head {message.name!r}"),
        task=message.task,
        metric=message.metric,
        score=message.score if message.HasField("score") else None,
        versions=tuple(message.versions),
        serving=message.serving if message.HasField("serving") else None,
        aliases=dict(message.aliases),
        shadow=message.shadow if message.HasField("shadow") else None,
    )


def migration(message: heads_pb2.Migration) -> Migration:
    """How a move went."""
    return Migration(
        head_info(message.before),
        head_info(message.after),
        message.shared_rows,
        message.agreement if message.HasField("agreement") else None,
        message.missing_rows,
    )


def _version(version: int) -> int:
    if isinstance(version, bool) or not isinstance(version, int) or not 0 < version < 2**32:
        raise InvalidRequest(f"version is {version!r}; it must be a positive integer")
    return version


def _split(alias: str) -> tuple[str, str]:
    name, at, word = alias.partition("@")
    if not (name and at and word):
        raise InvalidRequest(f"{alias!r} can't be an alias; write NAME@WORD, e.g. 'flowers@prod'")
    return name, word
