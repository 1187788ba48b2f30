"""A client without a server: the service in this process, for notebooks and scripts."""

from __future__ import annotations

import os
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from trunkline import exceptions as errors
from trunkline._options import Channel
from trunkline.client import Client

GROUP, NAME = "trunkline.local", "in_process"
_INSTALL = "install the service beside the client: pip install 'trunkline[server]'"
_KINDS: dict[str, type[errors.TrunklineError]] = {
    "missing_extra": errors.MissingExtra,
    "bad_setting": errors.InvalidRequest,
    "invalid_argument": errors.InvalidRequest,
    "unavailable": errors.Unavailable,
}


def open(
    models: str | os.PathLike[str] = "./models",
    data: str | os.PathLike[str] = "./data",
    **settings: Any,
) -> Client:
    """A client whose calls are served in this process; it has `Client`'s methods and errors.

    ::

        with trunkline.open(models="./models", data="./data") as client:
            vectors = client.embed(["cat.jpg", "dog.jpg"]).vectors

    Args:
        models: Folder of the model repository.
        data: Folder or URI of collections and heads.
        settings: Any of the service's settings, e.g. ``device="cuda"``, ``decode="fast"``.

    Raises:
        MissingExtra: The service's packages are not installed; says how to install them.
        InvalidRequest: A setting that is unknown, or that can't be used.
        TrunklineError: The models or the data can't be opened.
    """
    return Client._over([_connect(_entry_point(), models, data, settings)])


def _entry_point() -> EntryPoint:
    found = entry_points(group=GROUP, name=NAME)
    if not found:
        raise errors.MissingExtra(f"trunkline.open() needs the service, which is not installed: {_INSTALL}")
    return next(iter(found))


def _connect(
    entry: EntryPoint, models: str | os.PathLike[str], data: str | os.PathLike[str], settings: dict[str, Any]
) -> Channel:
    # The distribution declares its entry point in client-only installations too, where loading it
    # fails for the first package that is missing; others are imported only when they are used.
    try:
        channel: Channel = entry.load()(models=os.fspath(models), data=os.fspath(data), **settings)
    except ImportError as exc:
        missing = f"the package {exc.name!r} is missing" if exc.name else str(exc)
        raise errors.MissingExtra(f"trunkline.open() needs the service; {missing}: {_INSTALL}") from exc
    except Exception as exc:
        reason, message = getattr(exc, "reason", None), getattr(exc, "message", None)
        # The service's own errors are told by these two; anything else is a defect, and passes through.
        if not (isinstance(reason, str) and isinstance(message, str)):
            raise
        raise _KINDS.get(reason, errors.FailedPrecondition)(message, reason=reason) from exc
    return channel
