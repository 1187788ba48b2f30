"""What the columns of a table are taken for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trunkline_service.errors import InvalidArgument
from trunkline_service.jobs.sources.columns import TableColumns
from trunkline_service.jobs.sources.values import column_name

_ID = ("id", "image_id", "key")
_PATH = ("path", "file", "filename", "file_name", "image", "image_path", "url", "uri")
_LABEL = ("label", "class", "category")
_SPLIT = ("split", "subset")
_BYTES = ("bytes", "image")
_OPTIONS = {
    "id": "--id-col",
    "path": "--path-col",
    "label": "--label-col",
    "split": "--split-col",
    "bytes": "--bytes-col",
}


@dataclass(frozen=True)
class Roles:
    """The columns of one table.

    Attributes:
        id: Ids, or None where paths or row numbers are ids.
        path: Paths or URLs, or None where the images are in the table.
        label: Labels, or None.
        split: Splits, or None.
        bytes: The images themselves, or None.
        metadata: The user's columns that can be kept.
        dropped: Columns of lists, structs or bytes, which can't.
        class_names: What the numbers of the label column stand for; empty where they are no numbers.
        label_separator: Cuts a label's text into several; None for one label.
        numbered: Row numbers are ids, even where there are paths.
        multi_label: Labels are lists, in the column or cut by the separator.
    """

    id: str | None
    path: str | None
    label: str | None
    split: str | None
    bytes: str | None
    metadata: tuple[str, ...]
    dropped: tuple[str, ...]
    class_names: tuple[str, ...] = ()
    label_separator: str | None = None
    numbered: bool = False
    multi_label: bool = False

    @property
    def id_column(self) -> str | None:
        """The column that ids come from; None for row numbers."""
        return self.id or (None if self.numbered else self.path)

    @property
    def listed(self) -> tuple[str, ...]:
        """The columns that listing needs: not those of the images."""
        named = (self.id, self.path, self.label, self.split, *self.metadata)
        return tuple(dict.fromkeys(name for name in named if name is not None))

    def describe(self) -> str:
        """Which column is what, in a line."""
        said = {"images": self.bytes, "paths": self.path, "ids": self.id, "splits": self.split}
        parts = [f"{what} from column {name!r}" for what, name in said.items() if name is not None]
        if self.id is None:
            parts.append("paths are ids" if self.id_column is not None else "row numbers are ids")
        if self.metadata:
            names = {name: column_name(name) for name in self.metadata}
            said_names = [name if name == new else f"{name!r} as {new}" for name, new in names.items()]
            parts.append(f"kept as columns: {', '.join(said_names)}")
        if self.dropped:
            parts.append(f"left out, because they are no plain values: {', '.join(self.dropped)}")
        return "; ".join(parts)


def assign(
    schema: Any, columns: TableColumns, where: str, features: Mapping[str, Any] | None = None
) -> Roles:
    """Takes the columns that are named, and guesses the others by their names.

    Args:
        schema: A ``pyarrow.Schema``.
        columns: What the caller names.
        where: The table, for messages.
        features: Of a Hugging Face dataset, by column; None reads them from the schema.

    Raises:
        InvalidArgument: A named column does not exist, or none holds paths or images.
    """
    features = features_of(schema) if features is None else features
    names = list(schema.names)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidArgument(f"{where} has two columns {twice!r}; rename one")
    for role, option in _OPTIONS.items():
        _check_named(getattr(columns, role), names, where, option)
    images = columns.bytes
    if images is None and columns.path is None:
        images = images_column(schema, features)
    taken = {images, columns.id, columns.path, columns.label, columns.split}
    path = columns.path or (None if images else _guess(_PATH, names, taken))
    if path is None and images is None:
        raise InvalidArgument(
            f"{where} has no column of paths or images (looked for {', '.join(dict.fromkeys(_PATH + _BYTES))}); "
            f"its columns are {', '.join(names) or 'none'}: name one with --path-col or --bytes-col"
        )
    _check_paths(schema, path, where)
    _check_images(schema, images, where)
    row_id = columns.id or _guess(_ID, names, taken | {path})
    label = columns.label or _guess(_LABEL, names, taken | {path, row_id})
    split = columns.split or _guess(_SPLIT, names, taken | {path, row_id, label})
    used = {images, path, row_id, label, split}
    rest = [name for name in names if name not in used]
    kept = tuple(name for name in rest if _is_plain(schema.field(name).type))
    return Roles(
        id=row_id,
        path=path,
        label=label,
        split=split,
        bytes=images,
        metadata=kept,
        dropped=tuple(name for name in rest if name not in kept),
        class_names=_class_names(features.get(label) if label else None),
        label_separator=columns.label_separator,
        multi_label=label is not None
        and (bool(columns.label_separator) or _holds_lists(schema.field(label).type)),
    )


def images_column(schema: Any, features: Mapping[str, Any] | None = None) -> str | None:
    """The column that holds images, by what a Hugging Face dataset says or by name and type.

    Args:
        schema: A ``pyarrow.Schema``.
        features: By column; None reads them from the schema.
    """
    features = features_of(schema) if features is None else features
    for name, feature in features.items():
        if _kind(feature) == "Image" and name in schema.names:
            return name
    names = {name.lower(): name for name in schema.names}
    for guess in _BYTES:
        if guess in names and _holds_bytes(schema.field(names[guess]).type):
            return str(names[guess])
    return None


def features_of(schema: Any) -> Mapping[str, Any]:
    """What a Hugging Face dataset wrote into a schema about its columns; empty for other tables."""
    written = (schema.metadata or {}).get(b"huggingface")
    if written is None:
        return {}
    try:
        features = json.loads(written)["info"]["features"]
    except (ValueError, KeyError, TypeError):
        # It describes, and is not needed to read.
        return {}
    return features if isinstance(features, dict) else {}


def _kind(feature: object) -> object:
    return feature.get("_type") if isinstance(feature, dict) else None


def _class_names(feature: Any) -> tuple[str, ...]:
    while _kind(feature) in ("Sequence", "List", "LargeList"):
        feature = feature.get("feature")
    names = feature.get("names") if _kind(feature) == "ClassLabel" else None
    return tuple(map(str, names)) if isinstance(names, list) else ()


def _guess(guesses: Sequence[str], names: Sequence[str], taken: Iterable[str | None]) -> str | None:
    free = {name.lower(): name for name in reversed(names) if name not in set(taken)}
    return next((free[guess] for guess in guesses if guess in free), None)


def _check_named(name: str | None, names: Sequence[str], where: str, option: str) -> None:
    if name is not None and name not in names:
        raise InvalidArgument(
            f"{where} has no column {name!r} ({option}); its columns are {', '.join(names)}"
        )


def _check_paths(schema: Any, path: str | None, where: str) -> None:
    import pyarrow.types as pt

    if path is None:
        return
    kind = schema.field(path).type
    kind = kind.value_type if pt.is_dictionary(kind) else kind
    if not (pt.is_string(kind) or pt.is_large_string(kind) or pt.is_null(kind)):
        raise InvalidArgument(
            f"{where}: column {path!r} holds {kind}, and paths are texts; name another with --path-col"
        )


def _check_images(schema: Any, images: str | None, where: str) -> None:
    import pyarrow.types as pt

    if images is None:
        return
    kind = schema.field(images).type
    # A data set may hold the paths of its images instead of them.
    if not (_holds_bytes(kind) or pt.is_string(kind) or pt.is_large_string(kind)):
        raise InvalidArgument(
            f"{where}: column {images!r} holds {kind}, and images are bytes; name another with --bytes-col"
        )


def _holds_bytes(kind: Any) -> bool:
    import pyarrow.types as pt

    if pt.is_struct(kind):
        return any(kind.field(number).name == "bytes" for number in range(kind.num_fields))
    return bool(pt.is_binary(kind) or pt.is_large_binary(kind))


def _holds_lists(kind: Any) -> bool:
    import pyarrow.types as pt

    return bool(pt.is_list(kind) or pt.is_large_list(kind) or pt.is_fixed_size_list(kind))


def _is_plain(kind: Any) -> bool:
    import pyarrow.types as pt

    if pt.is_dictionary(kind):
        kind = kind.value_type
    checks = (
        pt.is_integer,
        pt.is_floating,
        pt.is_boolean,
        pt.is_string,
        pt.is_large_string,
        pt.is_timestamp,
        pt.is_date,
        pt.is_time,
        pt.is_decimal,
    )
    return any(check(kind) for check in checks)
