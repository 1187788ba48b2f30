"""Which version of a head serves: ``pointer.json``, as a value. Pure; the stores write it."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from trunkline_service.errors import ModelFileError
from trunkline_service.heads.strict_json import LARGEST, Kind, check_fields, check_list, parse_object

SCHEMA_VERSION = 1
_LONGEST_HISTORY = 100


@dataclass(frozen=True)
class Pointer:
    """Which versions of one head have a role.

    Attributes:
        serving: What the bare name stands for; None while only candidates are there.
        history: The versions that served before, the latest last; a rollback takes the last one off.
        aliases: Versions by alias, e.g. ``{"prod": 3}``.
        shadow: The candidate that runs beside the serving version; None for none.
        deleted: Versions that were deleted; their numbers are not given again.
    """

    serving: int | None = None
    history: tuple[int, ...] = ()
    aliases: Mapping[str, int] = field(default_factory=dict)
    shadow: int | None = None
    deleted: tuple[int, ...] = ()

    @classmethod
    def implied(cls, versions: Sequence[int]) -> Pointer:
        """What a head without ``pointer.json`` means, as older Trunklines left them: its newest version serves.

        Args:
            versions: Of the head, ascending.
        """
        return cls(versions[-1], tuple(versions[:-1])[-_LONGEST_HISTORY:]) if versions else cls()

    def promoted(self, version: int) -> Pointer:
        """``version`` serves; what served before is remembered."""
        if version == self.serving:
            return self
        before = () if self.serving is None else (self.serving,)
        return self._serving(version, (*self.history, *before))

    def saved(self, version: int, versions: Collection[int]) -> Pointer:
        """``version`` was just saved, to serve: it does, unless a newer one that was saved meanwhile serves.

        Args:
            version: Of the head.
            versions: All that the head has; a serving one that is not among them counts for nothing.
        """
        if self.serving is not None and self.serving not in versions:
            return replace(self, serving=None).promoted(version)
        if self.serving is None or self.serving <= version:
            return self.promoted(version)
        if version in self.history:
            return self
        return replace(self, history=(*self.history, version)[-_LONGEST_HISTORY:])

    def rolled_back(self) -> Pointer | None:
        """The version that served before serves again; None if there is none."""
        return self._serving(self.history[-1], self.history[:-1]) if self.history else None

    def aliased(self, alias: str, version: int) -> Pointer:
        """``alias`` stands for ``version``."""
        return replace(self, aliases={**self.aliases, alias: version})

    def unaliased(self, alias: str) -> Pointer:
        """``alias`` stands for nothing."""
        return replace(self, aliases={key: value for key, value in self.aliases.items() if key != alias})

    def without(self, version: int) -> Pointer:
        """``version`` is gone for good."""
        kept = tuple(entry for entry in self.history if entry != version)
        return replace(self, history=kept, deleted=tuple(sorted({*self.deleted, version})))

    def roles_of(self, version: int) -> list[str]:
        """What a version is needed for, in words; empty if it can be deleted."""
        roles = ["it is serving"] if version == self.serving else []
        roles += ["it is the shadow"] if version == self.shadow else []
        named = sorted(alias for alias, target in self.aliases.items() if target == version)
        return roles + [f"alias {alias!r} stands for it" for alias in named]

    def dumps(self) -> bytes:
        """The bytes of ``pointer.json``."""
        document = {
            "schema_version": SCHEMA_VERSION,
            "serving": self.serving,
            "history": list(self.history),
            "aliases": dict(sorted(self.aliases.items())),
            "shadow": self.shadow,
            "deleted": list(self.deleted),
        }
        return (json.dumps(document, ensure_ascii=False) + "\n").encode()

    @classmethod
    def loads(cls, data: bytes, where: str) -> Pointer:
        """What the bytes of a ``pointer.json`` say.

        Raises:
            ModelFileError: They are not one; ``where`` names the file.
        """
        try:
            return cls._from_json(parse_object(data, where), where)
        except ModelFileError as exc:
            raise ModelFileError(f"{exc}. Or delete {where}: the newest version serves then") from exc

    @classmethod
    def _from_json(cls, document: dict[str, Any], where: str) -> Pointer:
        version = document.get("schema_version")
        if version != SCHEMA_VERSION:
            raise ModelFileError(
                f"{where} has schema_version {version!r:.100}; this Trunkline reads {SCHEMA_VERSION}. "
                "Use the Trunkline that wrote it"
            )
        check_fields(document, _KINDS, where)
        for key in ("history", "deleted"):
            check_list(document[key], int, f"{where}: {key}")
        check_list(list(document["aliases"].values()), int, f"{where}: aliases")
        held = [*document["history"], *document["deleted"], *document["aliases"].values()]
        held += [document[key] for key in ("serving", "shadow") if document[key] is not None]
        wrong = [version for version in held if not 0 < version <= LARGEST]
        if wrong:
            raise ModelFileError(f"{where} holds {wrong[0]!r:.100}, which can't be a version")
        return cls(
            document["serving"],
            tuple(document["history"]),
            document["aliases"],
            document["shadow"],
            tuple(document["deleted"]),
        )

    def _serving(self, version: int, history: tuple[int, ...]) -> Pointer:
        # A shadow of itself would compare equal for ever.
        shadow = None if self.shadow == version else self.shadow
        return replace(self, serving=version, history=history[-_LONGEST_HISTORY:], shadow=shadow)


_KINDS: dict[str, Kind] = {
    "schema_version": int,
    "serving": (int, type(None)),
    "history": list,
    "aliases": dict,
    "shadow": (int, type(None)),
    "deleted": list,
}
