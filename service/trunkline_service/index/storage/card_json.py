"""Cards and options of indexes as JSON, read strictly."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict
from datetime import datetime
from typing import Any, get_args

from trunkline_service.errors import IndexDamaged, InvalidArgument
from trunkline_service.index.card import CARD_SCHEMA, IndexCard, IndexFile, Level, Recall, Setting
from trunkline_service.index.options import IndexKind, IndexOptions
from trunkline_service.index.storage.keys import is_build, is_file, is_uid, version_of
from trunkline_service.index.storage.strict_json import Kind, check_fields, check_type, parse_object
from trunkline_service.names import is_name

_OPTIONS_SCHEMA = 1
_SUM = "sha256"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_METRICS = ("cosine", "dot", "euclidean")

_CARD: dict[str, Kind] = {
    "build": str,
    "collection": str,
    "uid": str,
    "space_id": str,
    "dim": int,
    "metric": str,
    "version": int,
    "kind": str,
    "rows": int,
    "held_out": int,
    "parameters": dict,
    "effort": int,
    "recall": (dict, type(None)),
    "settings": list,
    "reason": str,
    "options": dict,
    "seconds": float,
    "nbytes": int,
    "files": list,
    "made_by": dict,
    "created_at": str,
    "levels": list,
}
_RECALL: dict[str, Kind] = {
    "k": int,
    "measured": float,
    "low": float,
    "queries": int,
    "version": int,
    "rows": int,
}
_SETTING: dict[str, Kind] = {"effort": int, "recall": float, "queries_per_s": float}
_LEVEL: dict[str, Kind] = {"effort": int, "recall": dict}
_FILE: dict[str, Kind] = {"name": str, "size": int, "sha256": str}
_OPTIONS: dict[str, Kind] = {"kind": str, "recall": float, "k": int, "memory_mb": (int, type(None))}


def dumps(card: IndexCard) -> str:
    """The text of ``card.json``; it holds the sum of all else in it."""
    document = asdict(card)
    return _text(CARD_SCHEMA, {**document, _SUM: sum_of(document)})


def loads(text: str | bytes, where: str = "the card") -> IndexCard:
    """The card in the text of a ``card.json``.

    Raises:
        IndexDamaged: It is none, of another schema, or holds what can't be right; ``where`` names it.
    """
    document = parse_object(text, CARD_SCHEMA, where)
    if document.pop(_SUM, None) != sum_of(document):
        raise IndexDamaged(f"{where} was changed: its SHA-256 is not the one in it; build the index again")
    check_fields(document, _CARD, where)
    _check_values(document, where)
    recall = document["recall"]
    for kind, name in ((int, "parameters"), (str, "made_by")):
        for key, value in document[name].items():
            check_type(value, kind, f"{where}: {name}.{key}")
    return IndexCard(
        **{
            **document,
            "recall": None if recall is None else _recall(recall, where),
            "levels": tuple(_level(entry, f"{where}: levels") for entry in document["levels"]),
            "settings": tuple(
                Setting(**check_fields(entry, _SETTING, where)) for entry in document["settings"]
            ),
            "files": _files(document["files"], where),
            "options": _options(document["options"], f"{where}: options"),
        }
    )


def sum_of(document: dict[str, Any]) -> str:
    """SHA-256, in hexadecimal, over a card without its schema version and its sum."""
    text = json.dumps(document, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def dumps_options(options: IndexOptions) -> str:
    """The text of a file of options."""
    return _text(_OPTIONS_SCHEMA, asdict(options))


def loads_options(text: str | bytes, where: str) -> IndexOptions:
    """The options in the text of their file.

    Raises:
        IndexDamaged: It holds none; ``where`` names it.
    """
    return _options(parse_object(text, _OPTIONS_SCHEMA, where), where)


def _text(schema: int, document: dict[str, Any]) -> str:
    whole = {"schema_version": schema, **document}
    return json.dumps(whole, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def _options(document: Any, where: str) -> IndexOptions:
    try:
        return IndexOptions(**check_fields(document, _OPTIONS, where))
    except InvalidArgument as exc:
        raise IndexDamaged(f"{where}: {exc.message}; set the options again") from exc


def _recall(entry: Any, where: str) -> Recall:
    return Recall(**check_fields(entry, _RECALL, f"{where}: recall"))


def _level(entry: Any, where: str) -> Level:
    checked = check_fields(entry, _LEVEL, where)
    return Level(checked["effort"], _recall(checked["recall"], where))


def _files(entries: list[Any], where: str) -> tuple[IndexFile, ...]:
    files = tuple(IndexFile(**check_fields(entry, _FILE, f"{where}: files")) for entry in entries)
    names = [file.name for file in files]
    # A name from elsewhere must not lead out of the folder.
    if len(set(names)) < len(names) or not all(map(is_file, names)):
        raise IndexDamaged(f"{where}: files are called {names!r:.200}, which can't be; build the index again")
    for file in files:
        if file.size < 0 or _SHA256.fullmatch(file.sha256) is None:
            raise IndexDamaged(
                f"{where}: {file.name} has no size or SHA-256 that can be; build the index again"
            )
    return files


def _check_values(document: dict[str, Any], where: str) -> None:
    checks = {
        "build": is_build(document["build"]) and version_of(document["build"]) == document["version"],
        "collection": is_name(document["collection"]),
        "uid": is_uid(document["uid"]),
        "dim": document["dim"] > 0,
        "metric": document["metric"] in _METRICS,
        "version": document["version"] > 0,
        "kind": document["kind"] in get_args(IndexKind),
        "rows": document["rows"] >= 0,
        "held_out": document["held_out"] >= 0,
        "effort": document["effort"] >= 0,
        "nbytes": document["nbytes"] >= 0,
        "created_at": _is_time(document["created_at"]),
    }
    if wrong := [key for key, right in checks.items() if not right]:
        shown = "; ".join(f"{key} is {document[key]!r:.100}" for key in wrong)
        raise IndexDamaged(f"{where} holds values that can't be right: {shown}; build the index again")


def _is_time(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False
