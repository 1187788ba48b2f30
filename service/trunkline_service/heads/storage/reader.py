"""Heads as they are read: names, versions, cards, and heads that are ready to predict."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from trunkline_service.errors import FailedPrecondition, HeadNotFound, ModelFileError, TrunklineError
from trunkline_service.heads.card import HeadCard
from trunkline_service.heads.serving.loaded import LoadedHead
from trunkline_service.heads.storage.loaded_heads import LoadedHeads
from trunkline_service.heads.storage.pointer import Pointer
from trunkline_service.heads.storage.reference import HeadReference, parse_head
from trunkline_service.heads.storage.store import CARD_FILE, HEAD_FILE, POINTER_FILE, HeadStore, shown
from trunkline_service.names import check_name, near

REPORT_FILE = "report.json"
_SHOWN = 10
T = TypeVar("T")


@dataclass(frozen=True)
class HeadEntry:
    """A head, or a version of it, and what the registry knows around it.

    Attributes:
        card: Of the version that was asked for; of a bare name the serving one, or else the newest.
        versions: Of the head, ascending.
        pointer: Which of them serve, and how.
    """

    card: HeadCard
    versions: tuple[int, ...]
    pointer: Pointer


class HeadReader:
    """The reading half of `HeadRegistry`.

    Args:
        store: Where the heads are.
        max_loaded: Heads kept loaded.
    """

    def __init__(self, store: HeadStore, max_loaded: int) -> None:
        self._store = store
        self._loaded = LoadedHeads(max_loaded)
        self._pointers: dict[str, tuple[bytes, Pointer]] = {}

    def names(self) -> list[str]:
        """Names of all heads that have a version, sorted."""
        return sorted(self._store.heads())

    def versions(self, name: str) -> list[int]:
        """The versions of a head, ascending.

        Raises:
            HeadNotFound: No such head.
        """
        versions = self._store.versions(check_name(name, "head"))
        if not versions:
            raise HeadNotFound(
                f"no head is called {name!r}{near(name, self.names())}; 'trunkline heads fit' makes one"
            )
        return list(versions)

    def list(self, broken: Callable[[str, TrunklineError], None] | None = None) -> list[HeadEntry]:
        """Every head by name, with the card of its serving version, or of the newest where none serves.

        Args:
            broken: Told of the heads that can't be read, which are left out; without it the first raises.

        Raises:
            ModelFileError: A card or a pointer is broken, naming it.
        """
        found: list[HeadEntry] = []
        for name, versions in sorted(self._store.heads().items()):
            try:
                found.append(self._entry(HeadReference(name), versions))
            except TrunklineError as exc:
                if broken is None:
                    raise
                broken(name, exc)
        return found

    def entry(self, ref: str) -> HeadEntry:
        """A head, or a version of it, with its versions and its pointer.

        Raises:
            HeadNotFound: No such head, version or alias, with names that come near.
            ModelFileError: A card or a pointer that is missing or broken.
        """
        reference = parse_head(ref)
        return self._entry(reference, tuple(self.versions(reference.name)))

    def _entry(self, reference: HeadReference, versions: tuple[int, ...]) -> HeadEntry:
        pointer = self._pointer(reference.name)
        if reference == HeadReference(reference.name) and pointer.serving is None:
            return HeadEntry(self._read_card(reference.name, versions[-1]), versions, pointer)
        return HeadEntry(self._follow(reference, self._read_card), versions, pointer)

    def pointer(self, name: str) -> Pointer:
        """Which versions of a head serve, and how.

        Raises:
            HeadNotFound: No such head.
            ModelFileError: The pointer is broken.
        """
        self.versions(name)
        return self._pointer(name)

    def card(self, ref: str) -> HeadCard:
        """The card of a head.

        Raises:
            HeadNotFound: No such head, version or alias, with names that come near.
            FailedPrecondition: A bare name, and none of its versions serves yet.
            ModelFileError: A card that is missing, broken, or of another head.
        """
        return self._follow(parse_head(ref), self._read_card)

    def load(self, ref: str) -> LoadedHead:
        """A head that is ready to predict; what a name or an alias stands for is looked up at every call.

        Raises:
            HeadNotFound: No such head, version or alias, with names that come near.
            FailedPrecondition: A bare name, and none of its versions serves yet.
            ModelFileError: A card that is missing, broken, or of another head; a ``head.onnx`` that is
                missing, can't be loaded, or is not the one that the card was written for.
        """
        return self._follow(parse_head(ref), self._load)

    def read_model(self, ref: str) -> tuple[HeadCard, bytes]:
        """The card of a head, and the bytes of its ``head.onnx``, which are those that the card was written for.

        Raises:
            HeadNotFound, FailedPrecondition, ModelFileError: As `load`.
        """
        return self._follow(parse_head(ref), self._read_model)

    def check_pointer(self, name: str) -> None:
        """Does nothing where a version can be saved under ``name``, which need not be there yet.

        Raises:
            InvalidArgument: ``name`` can't name a head.
            ModelFileError: The pointer is broken.
        """
        self._pointer(check_name(name, "head"))

    def shadow(self, name: str, version: int) -> int | None:
        """The candidate that runs beside a version; None where there is none, or where another version serves.

        Raises:
            ModelFileError: The pointer is broken.
        """
        pointer = self._pointer(check_name(name, "head"))
        return pointer.shadow if pointer.serving == version else None

    def read_report(self, ref: str) -> bytes | None:
        """The bytes of the report beside a card; None where there is none.

        Raises:
            HeadNotFound, FailedPrecondition, ModelFileError: As `card`.
        """
        card = self.card(ref)
        return self._store.find(card.name, card.version, REPORT_FILE)

    def _follow(self, reference: HeadReference, use: Callable[[str, int], T]) -> T:
        """What ``use`` makes of the version that a reference stands for."""
        while True:
            version = self._version(reference)
            try:
                return use(reference.name, version)
            except ModelFileError:
                # What the reference stood for may have been replaced and deleted meanwhile.
                if self._version(reference) == version:
                    self._check(reference.name, version)
                    raise

    def _version(self, reference: HeadReference) -> int:
        """Which version a reference stands for; whether it is there is not looked at."""
        name, version, alias = reference
        if version is not None:
            return version
        pointer = self._pointer(name)
        if alias is not None:
            if alias not in pointer.aliases:
                raise self._no_alias(name, alias, pointer)
            return pointer.aliases[alias]
        if pointer.serving is None:
            versions = self.versions(name)
            known = ", ".join(map(str, versions[-_SHOWN:]))
            are = "versions are" if len(versions) > 1 else "only version is"
            raise FailedPrecondition(
                f"no version of head {name!r} serves yet; its {are} {known}: name one, e.g. "
                f"'{name}@{known.rpartition(' ')[2]}', or promote it"
            )
        return pointer.serving

    def _pointer(self, name: str) -> Pointer:
        data = self._store.pointer(name)
        if data is None:
            return Pointer.implied(self._store.versions(name))
        known = self._pointers.get(name)
        if known is None or known[0] != data:
            known = self._pointers[name] = (data, self._parsed(name, data))
        return known[1]

    def _parsed(self, name: str, data: bytes) -> Pointer:
        return Pointer.loads(data, f"heads/{name}/{POINTER_FILE}")

    def _check(self, name: str, version: int) -> None:
        """Raises HeadNotFound if there is no such version."""
        versions = self.versions(name)
        if version not in versions:
            newest = ", ".join(map(str, versions[-_SHOWN:]))
            known = (
                f"its newest versions are {newest}" if len(versions) > 1 else f"its only version is {newest}"
            )
            raise HeadNotFound(f"head {name!r} has no version {version}; {known}")

    def _no_alias(self, name: str, alias: str, pointer: Pointer) -> HeadNotFound:
        self.versions(name)
        known = f"; it has {', '.join(sorted(pointer.aliases))}" if pointer.aliases else ""
        return HeadNotFound(f"head {name!r} has no alias {alias!r}{known}")

    def _load(self, name: str, version: int) -> LoadedHead:
        stamp = self._store.stamp(name, version)
        return self._loaded.get((name, version), stamp, lambda: self._open(name, version))

    def _open(self, name: str, version: int) -> LoadedHead:
        return LoadedHead(*self._read_model(name, version))

    def _read_model(self, name: str, version: int) -> tuple[HeadCard, bytes]:
        card = self._read_card(name, version)
        model = self._store.read(name, version, HEAD_FILE)
        found = hashlib.sha256(model).hexdigest()
        if found != card.head_sha256:
            raise ModelFileError(
                f"{shown(name, version, HEAD_FILE)} has SHA-256 {found}, its card says {card.head_sha256}: the file "
                "was changed or damaged; restore it, or fit the head again"
            )
        return card, model

    def _read_card(self, name: str, version: int) -> HeadCard:
        where = shown(name, version, CARD_FILE)
        card = HeadCard.loads(self._store.read(name, version, CARD_FILE), where)
        if (card.name, card.version) != (name, version):
            raise ModelFileError(
                f"{where} is the card of {card.ref} in the folder of {name}@{version}; move it back"
            )
        return card
