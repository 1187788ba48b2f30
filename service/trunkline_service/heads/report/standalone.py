"""A page as one HTML file that needs nothing else: no network, no fonts, no scripts of others."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
from pathlib import Path
from typing import Any

from trunkline_service.errors import StorageError
from trunkline_service.heads.report.markup import Child, Markup, join, tag


def document(title: str, style: str, *body: Child, data: Any = None, script: str | None = None) -> str:
    """The page.

    Args:
        title: Of the window.
        style: CSS.
        body: What stands in it.
        data: What the script reads, as JSON, from the element ``#data``.
        script: Runs at the end of the body; None for none.
    """
    scripts = None
    if script is not None:
        stored = tag("script", Markup(_json(data)), type="application/json", id="data")
        scripts = join(stored, tag("script", Markup(script)))
    page = tag(
        "html",
        tag(
            "head",
            tag("meta", charset="utf-8"),
            tag("meta", http_equiv="Content-Security-Policy", content=_policy(style, script)),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("meta", name="color-scheme", content="light dark"),
            tag("title", title),
            tag("style", Markup(style)),
        ),
        tag("body", body, scripts),
        lang="en",
    )
    return f"<!doctype html>\n{page}\n"


def write_page(page: str, path: Path, what: str) -> None:
    """Writes a page; it appears whole or not at all.

    Args:
        page: See `document`.
        path: The file; one that is there is replaced.
        what: The page, for the message.

    Raises:
        StorageError: The file can't be written.
    """
    data = page.encode("utf-8", "replace")
    draft = path.with_name(f".{path.name[:100]}.{secrets.token_hex(8)}")
    try:
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            with open(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
    except OSError as exc:
        raise StorageError(f"{what} can't be written to {path}: {exc.strerror or exc}") from exc


def _policy(style: str, script: str | None) -> str:
    """Nothing may be loaded; of scripts and styles only these very ones run."""
    scripts = "" if script is None else f" script-src '{_hash(script)}';"
    return (
        "default-src 'none'; img-src data:; "
        f"style-src '{_hash(style)}';{scripts} base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _json(value: Any) -> str:
    """JSON that can't end its script element, or begin another."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
