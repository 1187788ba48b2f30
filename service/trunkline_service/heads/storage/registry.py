"""Where heads live: ``<data>/heads/<name>/<version>/{head.onnx,card.json,report.json}`` and ``pointer.json``.

A version never changes once it stands; what changes is the pointer, which says what serves. A version is
published first, then the pointer is moved, so that what serves is always whole.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from trunkline_service.errors import FailedPrecondition, HeadNotFound, InvalidArgument
from trunkline_service.heads.card import HeadCard
from trunkline_service.heads.fitted import FittedHead
from trunkline_service.heads.serving import onnx_head
from trunkline_service.heads.storage.pointer import Pointer
from trunkline_service.heads.storage.reader import REPORT_FILE, HeadReader
from trunkline_service.heads.storage.reference import is_alias, parse_head
from trunkline_service.heads.storage.store import open_store
from trunkline_service.names import check_name

_SHOWN = 5


def _now() -> datetime:
    return datetime.now(UTC)


class HeadRegistry(HeadReader):
    """The heads under one data folder or URI; safe to use from many threads and processes.

    A reference is a head's name (the version that serves), ``flowers@3`` (a version) or ``flowers@prod``
    (an alias). A head that an older Trunkline left, without a pointer, serves its newest version.
    """

    def __init__(
        self,
        data: str | Path,
        *,
        trunkline_version: str = "unknown",
        clock: Callable[[], datetime] = _now,
        max_loaded: int = 256,
        refresh_s: float = 1.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Opens the registry; nothing is created before the first ``save``.

        Args:
            data: The data folder, or ``s3://``, ``gs://``, ``az://``; heads are under its ``heads``.
            trunkline_version: Written into the cards.
            clock: Gives the time, with its zone, for the cards.
            max_loaded: Heads kept loaded; the longest unused one goes first.
            refresh_s: How old what is known of an object store may get, in seconds; a folder is asked anew
                at every call.
            monotonic: Seconds, for that.

        Raises:
            InvalidArgument: A URI of another kind.
        """
        super().__init__(open_store(data, refresh_s, monotonic), max_loaded)
        self._trunkline_version = trunkline_version
        self._clock = clock

    def save(self, fitted: FittedHead, name: str, *, promote: bool = True) -> HeadCard:
        """Stores a head as the next version of ``name``; with ``promote`` it serves from then on.

        Savers at the same time get versions of their own, of which the newest serves.

        Raises:
            InvalidArgument: ``name`` can't name a head.
            StorageError: It can't be written; what served before still does.
            FailedPrecondition: The head was deleted meanwhile, and this version with it.
        """
        check_name(name, "head")
        self._store.clean(name, self._clock())
        model = onnx_head.build(fitted.network, fitted.classes, fitted.space_id, fitted.task)
        digest = hashlib.sha256(model).hexdigest()
        cards: dict[int, HeadCard] = {}

        def card_of(version: int) -> bytes:
            cards[version] = HeadCard.of(
                fitted,
                name,
                version,
                head_sha256=digest,
                created_at=self._clock(),
                trunkline_version=self._trunkline_version,
            )
            return cards[version].dumps().encode()

        taken = (*self._store.versions(name), *self._pointer(name).deleted)
        if not promote or (taken and self._store.pointer(name) is None):
            # Without a pointer the newest version would serve, and this one shall not, or not yet.
            self._change(name, lambda pointer: pointer)
        version = self._store.publish(name, max(taken, default=0) + 1, model, card_of)
        if promote or self._store.pointer(name) is None:
            self._change(name, lambda pointer: self._saved(name, version, pointer, promote))
        return cards[version]

    def _saved(self, name: str, version: int, pointer: Pointer, promote: bool) -> Pointer:
        versions = self._store.versions(name)
        if version not in versions:
            raise FailedPrecondition(
                f"head {name!r} was dropped meanwhile, and with it version {version}, which was being saved; save it "
                "again"
            )
        if promote:
            return pointer.saved(version, versions)
        # The head was dropped and its pointer with it: without one this version would serve.
        return replace(pointer, serving=None) if pointer.serving == version else pointer

    def promote(self, name: str, version: int) -> HeadCard:
        """A version serves from now on; gives its card.

        Raises:
            HeadNotFound: No such head or version.
            ModelFileError: It can't be loaded; what served before still does.
        """
        # A head that can't predict must not come to serve.
        card = self.load(_ref(name, version)).card
        self._give_role(name, version, lambda pointer: pointer.promoted(version))
        return card

    def rollback(self, name: str, *, serving: int | None = None) -> HeadCard:
        """The version that served before serves again; gives its card.

        Args:
            name: Of the head.
            serving: Roll back only if this version serves, so that a call can be repeated; None for
                whichever serves.

        Raises:
            HeadNotFound: No such head.
            FailedPrecondition: Nothing served before.
        """
        self.versions(name)

        def back(pointer: Pointer) -> Pointer:
            if serving is not None and pointer.serving != serving:
                return pointer
            before = pointer.rolled_back()
            if before is None:
                now = "" if pointer.serving is None else f" before version {pointer.serving}"
                raise FailedPrecondition(
                    f"nothing served{now} of head {name!r}; promote the version that shall serve"
                )
            return before

        now = self._change(name, back).serving
        if now is None:
            raise FailedPrecondition(f"no version of head {name!r} serves; promote one")
        return self._read_card(name, now)

    def set_alias(self, name: str, alias: str, version: int) -> None:
        """``name@alias`` stands for a version from now on.

        Raises:
            InvalidArgument: Not a word that can be an alias.
            HeadNotFound: No such head or version.
        """
        if not is_alias(alias):
            raise InvalidArgument(
                f"{alias!r} can't be an alias of a head; use letters, digits, '.', '_' or '-', and no number, "
                "e.g. 'prod'"
            )
        self.card(_ref(name, version))
        self._give_role(name, version, lambda pointer: pointer.aliased(alias, version))

    def delete_alias(self, name: str, alias: str) -> None:
        """Deletes an alias; its version stays.

        Raises:
            HeadNotFound: No such head or alias.
        """
        self.versions(name)

        def without(pointer: Pointer) -> Pointer:
            if alias not in pointer.aliases:
                raise self._no_alias(name, alias, pointer)
            return pointer.unaliased(alias)

        self._change(name, without)

    def set_shadow(self, name: str, version: int | None) -> None:
        """A version runs beside the serving one from now on; None for no version any more.

        Raises:
            HeadNotFound: No such head or version.
            FailedPrecondition: It is the one that serves, or is of another space, task or classes than that.
            ModelFileError: It can't be loaded.
        """
        if version is None:
            self.versions(name)
            self._change(name, lambda pointer: replace(pointer, shadow=None))
            return
        card = self.load(_ref(name, version)).card

        def shadowed(pointer: Pointer) -> Pointer:
            if pointer.serving == version:
                raise FailedPrecondition(
                    f"version {version} of head {name!r} serves; it can't be its own shadow"
                )
            if pointer.serving is not None:
                _check_alike(self._read_card(name, pointer.serving), card)
            return replace(pointer, shadow=version)

        self._give_role(name, version, shadowed)

    def delete(self, ref: str) -> None:
        """Deletes a version (``flowers@3``), or a whole head (``flowers``) with its aliases.

        A version's number is not given again as long as its head is there.

        Raises:
            HeadNotFound: No such head or version.
            FailedPrecondition: The version serves, is the shadow, or an alias stands for it.
            InvalidArgument: An alias.
        """
        name, version, alias = parse_head(ref)
        if alias is not None:
            raise InvalidArgument(
                f"{ref!r} is an alias; name the version that shall be deleted, e.g. '{name}@3'"
            )
        if version is None:
            self.versions(name)
            # Nothing serves any more, also where the rest fails half-way.
            # A pointer that can't be read is replaced as well.
            self._store.update_pointer(name, lambda _: Pointer(deleted=self._store.versions(name)).dumps())
            self._store.remove_head(name)
            return
        self._check(name, version)

        def without(pointer: Pointer) -> Pointer:
            roles = pointer.roles_of(version)
            if roles:
                raise FailedPrecondition(
                    f"version {version} of head {name!r} can't be deleted: {', '.join(roles)}; promote, move or "
                    "delete that first"
                )
            return pointer.without(version)

        # The pointer first: from then on nobody can give this version a role.
        self._change(name, without)
        self._store.remove(name, version)

    def write_report(self, ref: str, report: bytes) -> None:
        """Puts a report beside a card.

        Raises:
            HeadNotFound, FailedPrecondition, ModelFileError: As `card`.
            StorageError: It can't be written.
        """
        card = self.card(ref)
        self._store.write(card.name, card.version, REPORT_FILE, report)

    def _give_role(self, name: str, version: int, change: Callable[[Pointer], Pointer]) -> None:
        """Changes the pointer, unless the version was deleted meanwhile."""

        def checked(pointer: Pointer) -> Pointer:
            if version in pointer.deleted or version not in self._store.versions(name):
                raise HeadNotFound(f"version {version} of head {name!r} was deleted")
            return change(pointer)

        self._change(name, checked)

    def _change(self, name: str, change: Callable[[Pointer], Pointer]) -> Pointer:
        """Replaces the pointer of a head by what ``change`` makes of it; gives the new one."""

        def over(data: bytes | None) -> bytes:
            implied = data is None
            before = (
                Pointer.implied(self._store.versions(name)) if implied else self._parsed(name, data or b"")
            )
            return change(before).dumps()

        return self._parsed(name, self._store.update_pointer(name, over))


def _check_alike(serving: HeadCard, candidate: HeadCard) -> None:
    """Whether a candidate can be asked the same as the version that serves, and answers in the same words.

    Raises:
        FailedPrecondition: It can't, saying what differs.
    """
    if candidate.space_id != serving.space_id:
        what = (
            f"takes embeddings of space {candidate.space_id}, and {serving.ref} those of {serving.space_id}"
        )
    elif candidate.task != serving.task:
        what = f"is for {candidate.task}, and {serving.ref} for {serving.task}"
    elif set(candidate.classes) != set(serving.classes):
        differing = ", ".join(sorted({*candidate.classes} ^ {*serving.classes})[:_SHOWN])
        what = f"has other classes than {serving.ref} ({differing})"
    else:
        return
    raise FailedPrecondition(
        f"{candidate.ref} can't run beside {serving.ref}: it {what}; such versions are compared by 'heads migrate'"
    )


def _ref(name: str, version: int) -> str:
    if "@" in name:
        raise InvalidArgument(
            f"{name!r} is a reference; give the name of the head, {name.partition('@')[0]!r}, and the version beside it"
        )
    check_name(name, "head")
    return f"{name}@{version}"
