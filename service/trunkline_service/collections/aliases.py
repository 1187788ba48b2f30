"""Aliases: movable names of collections, ``photos@prod``."""

from __future__ import annotations

import json
from dataclasses import dataclass

from trunkline_service.collections.boundary import storage_errors
from trunkline_service.collections.names import check_name, is_name
from trunkline_service.collections.place import Place
from trunkline_service.errors import CollectionNotFound, InvalidArgument, StorageError

_FOLDER = ".aliases"
_SUFFIX = ".json"


@dataclass(frozen=True)
class Alias:
    """A movable name.

    Attributes:
        name: ``photos@prod``.
        collection: What it stands for.
        version: Of the collection; None for its latest.
    """

    name: str
    collection: str
    version: int | None


class Aliases:
    """The aliases of one data folder. A move is one write: readers see the old target or the new one."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def all(self) -> list[Alias]:
        """By name."""
        with storage_errors("*", "read"):
            files = sorted(self._place.texts(_FOLDER))
        found = (self.find(file.removesuffix(_SUFFIX)) for file in files if file.endswith(_SUFFIX))
        return [alias for alias in found if alias is not None]

    def find(self, name: str) -> Alias | None:
        """The alias of this name, if there is one.

        Raises:
            StorageError: Its file can't be read.
        """
        with storage_errors(name, "read"):
            text = self._place.read_text(f"{_FOLDER}/{name}{_SUFFIX}")
        if text is None:
            return None
        try:
            values = json.loads(text)
            version = values["version"]
            return Alias(name, str(values["collection"]), None if version is None else int(version))
        except (ValueError, TypeError, KeyError) as exc:
            raise StorageError(f"alias {name!r} can't be read ({exc}); set it again") from exc

    def set(self, alias: Alias) -> None:
        """Makes or moves an alias. What it points to is checked by the store.

        Raises:
            InvalidArgument: Not an alias's name.
        """
        split_alias(alias.name)
        text = json.dumps({"collection": alias.collection, "version": alias.version})
        with storage_errors(alias.name, "written"):
            self._place.write_text(f"{_FOLDER}/{alias.name}{_SUFFIX}", text)

    def delete(self, name: str) -> None:
        """Deletes an alias; the collection stays.

        Raises:
            CollectionNotFound: There is none.
        """
        with storage_errors(name, "written"):
            if not self._place.delete_text(f"{_FOLDER}/{name}{_SUFFIX}"):
                raise CollectionNotFound(f"there is no alias {name!r}")


def split_alias(name: str) -> tuple[str, str]:
    """``photos@prod`` -> ``("photos", "prod")``.

    Raises:
        InvalidArgument: Not of this form, or a number after the ``@``, which is a version.
    """
    base, _, word = name.partition("@")
    check_name(base)
    if not is_name(word) or word.isdigit():
        raise InvalidArgument(f"{name!r} can't be an alias; write NAME@WORD, e.g. 'photos@prod'")
    return base, word
