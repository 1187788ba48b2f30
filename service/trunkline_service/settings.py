"""Frozen settings; the only reader of the environment and of ``trunkline.toml``.

A value is looked up in this order: a flag, the environment (``TRUNKLINE_<FIELD>``), the file
``trunkline.toml`` in the working directory (or where ``TRUNKLINE_CONFIG`` points), the default.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from trunkline_service.errors import SettingsError
from trunkline_service.names import is_name

DecodeMode = Literal["exact", "fast"]
IndexBuild = Literal["auto", "never"]
MIB = 1024 * 1024
# Beyond it, front processes would only wait for each other.
MOST_FRONTENDS = 64
# Those whose name is another than the setting's.
_FLAGS = {"index_refresh_s": "--refresh", "max_connection_age_s": "--max-connection-age"}
_MAY_BE_ZERO = frozenset(
    {
        "threads",
        "frontends",
        "cache_mb",
        "max_connection_age_s",
        "drain_s",
        "index_refresh_s",
        "index_flat_rows",
    }
)
_IS_NO = {int: "which is not a whole number", float: "which is not a number", str: "which is not text"}
_AT_MOST = {"frontends": MOST_FRONTENDS}
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class ImageLimits:
    """What one image may cost, checked by its header before anything is decoded.

    Attributes:
        max_bytes: The largest encoded image, in bytes.
        max_pixels: The largest decoded image, width x height.
    """

    max_bytes: int = 32 * MIB
    max_pixels: int = 64_000_000


@dataclass(frozen=True)
class QueueLimits:
    """Bounds of the work that may wait or run at once (contract 5).

    Attributes:
        max_images: Images admitted and not yet answered.
        max_bytes: Their encoded bytes, or their pixels' bytes, together.
        max_batch: The most images in one run of the model.
    """

    max_images: int = 1024
    max_bytes: int = 256 * MIB
    max_batch: int = 16

    @property
    def buckets(self) -> tuple[int, ...]:
        """The batch sizes that models run with: powers of two up to ``max_batch``, and that itself."""
        powers = [1 << power for power in range(self.max_batch.bit_length()) if 1 << power < self.max_batch]
        return (*powers, self.max_batch)


@dataclass(frozen=True)
class IndexSettings:
    """How collections are searched.

    Attributes:
        build: ``auto``: a server builds and rebuilds indexes by itself; ``never``: only when it is told.
        flat_rows: Collections of up to so many rows are searched without an index.
        refresh_s: Seconds for which a search need not ask the store for a newer version; with 0 it always
            does, so that what any process wrote is found at once.
        memory_mb: Mebibytes of vectors and indexes kept in memory.
        cache: Folder where indexes of an object store are kept; empty for one in the user's cache.
    """

    build: IndexBuild = "auto"
    flat_rows: int = 200_000
    refresh_s: float = 0.0
    memory_mb: int = 4096
    cache: str = ""


@dataclass(frozen=True)
class PlanSettings:
    """How one model is run on a CPU, instead of what is measured when it is loaded: ``[plans.NAME]``.

    Attributes:
        threads: Threads inside one run.
        runs: Runs at once.
        batch: The most images in one run; ``queue.max_batch`` bounds it.
    """

    threads: int
    runs: int
    batch: int


@dataclass(frozen=True)
class Settings:
    """Everything that a workspace or a server can be told.

    Attributes:
        models: Folder of the model repository.
        data: URI or folder of collections and heads.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        decode: ``exact`` (the pixels Pillow would give) or ``fast`` (libjpeg's scaled decoding).
        default_model: What an empty model name stands for.
        threads: Threads of the decode pool and of ONNX Runtime; 0 for one a core.
        frontends: Front processes of a server, up to 64; 0 for one process that does everything.
        cache_mb: Mebibytes of embeddings kept for images that come again; 0 for none.
        max_connection_age_s: Seconds after which a client is asked to connect anew, so that balancers can
            spread it; 0 for never.
        listen: ``host:port`` of the gRPC server; port 0 takes a free one.
        metrics_listen: ``host:port`` of the Prometheus page, or empty for none.
        max_message_bytes: The largest gRPC message.
        max_images_per_request: The most images in one request.
        drain_s: Seconds that queued work may take after SIGTERM.
        plans: How models are run, by name; only the file can say it, and `trunkline autotune` writes it.
    """

    models: str = "models"
    data: str = "data"
    device: str = "auto"
    decode: DecodeMode = "exact"
    default_model: str = "trunkline-small"
    threads: int = 0
    frontends: int = 0
    cache_mb: int = 0
    max_connection_age_s: float = 0.0
    listen: str = "127.0.0.1:50051"
    metrics_listen: str = ""
    max_message_bytes: int = 64 * MIB
    max_images_per_request: int = 1024
    drain_s: float = 30.0
    image: ImageLimits = field(default_factory=ImageLimits)
    queue: QueueLimits = field(default_factory=QueueLimits)
    index: IndexSettings = field(default_factory=IndexSettings)
    plans: Mapping[str, PlanSettings] = field(default_factory=dict)

    @property
    def worker_threads(self) -> int:
        """Threads for decoding and for inference: ``threads``, or one a core."""
        return self.threads or os.cpu_count() or 1


def load(
    flags: Mapping[str, Any] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Settings:
    """The settings that flags, environment and file give together.

    Args:
        flags: Values by field name; ``None`` values are left out. Nested limits are named
            ``image_max_bytes``, ``queue_max_batch`` and so on, in every source alike.
        environ: Instead of the process's environment.
        cwd: Instead of the working directory.

    Raises:
        SettingsError: An unknown name, or a value of the wrong type, naming where it stands.
    """
    environ = os.environ if environ is None else environ
    document, file = _document(environ, cwd or Path.cwd())
    plans = _plans(document.pop("plans", {}), file)
    values = _flattened(document, file)
    values |= _from_environment(environ)
    values |= {name: (value, "flag") for name, value in (flags or {}).items() if value is not None}
    converted = {name: _convert(name, value, where) for name, (value, where) in values.items()}
    return _build(converted | {"plans": plans})


def file_of(*, environ: Mapping[str, str] | None = None, cwd: Path | None = None) -> Path:
    """Where settings are read from, if it is there: what TRUNKLINE_CONFIG names, or ``trunkline.toml``."""
    named = (os.environ if environ is None else environ).get("TRUNKLINE_CONFIG")
    return Path(named) if named else (cwd or Path.cwd()) / "trunkline.toml"


def plan_header(name: str) -> str:
    """The header of a model's plan in the file: ``[plans.NAME]``, quoted where TOML wants it."""
    return f"[plans.{name if _BARE_KEY.fullmatch(name) else json.dumps(name)}]"


def cache_folder(environ: Mapping[str, str] | None = None) -> Path | None:
    """The user's cache of this program: ``$XDG_CACHE_HOME/trunkline``, or ``~/.cache/trunkline``.

    None where neither can be known: a user without a home.
    """
    named = Path((os.environ if environ is None else environ).get("XDG_CACHE_HOME", ""))
    # Their specification says that a relative path is to be ignored.
    if named.is_absolute():
        return named / "trunkline"
    try:
        return Path.home() / ".cache" / "trunkline"
    except RuntimeError:
        return None


def _slots() -> dict[str, Any]:
    """Every settable name with its default, groups flattened as ``image_*``, ``queue_*``, ``index_*``."""
    defaults = Settings()
    flat: dict[str, Any] = {}
    for entry in fields(Settings):
        value = getattr(defaults, entry.name)
        if isinstance(value, (ImageLimits, QueueLimits, IndexSettings)):
            flat |= {f"{entry.name}_{inner.name}": getattr(value, inner.name) for inner in fields(value)}
        elif entry.name != "plans":
            flat[entry.name] = value
    return flat


def _from_environment(environ: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    names = {f"TRUNKLINE_{name.upper()}": name for name in _slots()}
    return {names[key]: (value, f"environment {key}") for key, value in environ.items() if key in names}


def _document(environ: Mapping[str, str], cwd: Path) -> tuple[dict[str, Any], str]:
    """What the file holds, and its name; empty where there is none."""
    path = file_of(environ=environ, cwd=cwd)
    if not path.is_file():
        if named := environ.get("TRUNKLINE_CONFIG"):
            raise SettingsError(f"TRUNKLINE_CONFIG names {named!r}, which is not a file")
        return {}, path.name
    try:
        return tomllib.loads(path.read_text(encoding="utf-8")), path.name
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise SettingsError(f"{path.name} is not valid TOML: {exc}") from exc


def _flattened(document: Mapping[str, Any], where: str) -> dict[str, tuple[Any, str]]:
    flat: dict[str, tuple[Any, str]] = {}
    for key, value in document.items():
        if isinstance(value, dict):
            for inner, item in value.items():
                if isinstance(item, dict):
                    raise SettingsError(
                        f"{where}: unknown table [{key}.{inner}]; a model's plan is a table [plans.NAME], "
                        "and settings are in [image], [queue], [index] or above all tables"
                    )
                name = f"{key}_{inner}"
                if name not in _slots():
                    raise _unknown(where, f"{key}.{inner}")
                flat[name] = (item, where)
        else:
            flat[key] = (value, where)
    return flat


def _unknown(where: str, written: str) -> SettingsError:
    """An error about a name that is none, as it was written."""
    known = ", ".join(sorted(_slots()))
    return SettingsError(
        f"{where}: unknown setting {written!r}; the settings are {known}, "
        "and in trunkline.toml a table [plans.NAME] for a model"
    )


def _plans(tables: Any, where: str) -> dict[str, PlanSettings]:
    if not isinstance(tables, dict):
        raise SettingsError(f"{where}: plans is {tables!r}; write a table [plans.NAME] for a model")
    return {name: _plan(name, table, where) for name, table in tables.items()}


def _plan(name: str, table: Any, where: str) -> PlanSettings:
    keys = [entry.name for entry in fields(PlanSettings)]
    bare, at, _ = name.partition("@")
    if at and is_name(bare):
        raise SettingsError(
            f"{where}: plans.{json.dumps(name)}: plans are by name, without a version: {plan_header(bare)}"
        )
    if not is_name(name):
        raise SettingsError(f"{where}: plans.{name} is no model's name; quote a name that has a dot in it")
    if not isinstance(table, dict) or set(table) != set(keys):
        given = ", ".join(sorted(table)) if isinstance(table, dict) else repr(table)
        raise SettingsError(f"{where}: plans.{name} has {given or 'nothing'}; it needs {', '.join(keys)}")
    for key in keys:
        # True is an int.
        if type(table[key]) is not int or table[key] < 1:
            raise SettingsError(
                f"{where}: plans.{name}.{key} is {table[key]!r}; it must be a whole number of at least 1"
            )
    return PlanSettings(**table)


def _convert(name: str, value: Any, where: str) -> Any:
    slots = _slots()
    if name not in slots:
        raise _unknown(where, name)
    found = f"{_named(name, where)} is {value!r}"
    wanted = type(slots[name])
    if name == "decode" and value not in get_args(DecodeMode):
        raise SettingsError(f"{found}; it can be 'exact' or 'fast'")
    if name == "index_build" and value not in get_args(IndexBuild):
        raise SettingsError(f"{found}; it can be 'auto' or 'never'")
    # int() would cut the 2.5, and True is a number to both.
    if (wanted is int and isinstance(value, float)) or (wanted in (int, float) and isinstance(value, bool)):
        raise SettingsError(f"{found}, {_IS_NO[wanted]}")
    try:
        converted = wanted(value)
    except (TypeError, ValueError, OverflowError) as exc:
        raise SettingsError(f"{found}, {_IS_NO[wanted]}") from exc
    least = 0 if name in _MAY_BE_ZERO else 1
    # NaN is not at least anything.
    if wanted in (int, float) and not least <= converted:
        raise SettingsError(f"{found}; it must be at least {least}")
    if name in _AT_MOST and converted > _AT_MOST[name]:
        raise SettingsError(f"{found}; it must be at most {_AT_MOST[name]}")
    return converted


def _named(name: str, where: str) -> str:
    """A setting as it was given: by its flag or its variable, or by its name in the file."""
    if where == "flag":
        return _FLAGS.get(name, f"--{name.replace('_', '-')}")
    return where if where.startswith("environment ") else f"{where}: {name}"


def _build(values: dict[str, Any]) -> Settings:
    def part(prefix: str) -> dict[str, Any]:
        return {
            name.removeprefix(prefix): values.pop(name) for name in list(values) if name.startswith(prefix)
        }

    return Settings(
        image=ImageLimits(**part("image_")),
        queue=QueueLimits(**part("queue_")),
        index=IndexSettings(**part("index_")),
        **values,
    )
