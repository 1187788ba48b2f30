"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from trunkline_service.errors import InvalidArgument


def check_folder(path: Path) -> None:
    """Refuses a target whose folder is not there, before anything is read.

    Raises:
        InvalidArgument: Naming both.
    """
    if not path.parent.is_dir():
        raise InvalidArgument(f"can't export to {str(path)!r}: there is no folder {str(path.parent)!r}")
    if path.is_dir():
        raise InvalidArgument(f"can't export to {str(path)!r}: it is a folder; name a file in it")


@contextmanager
def whole_files(*paths: Path) -> Iterator[tuple[IO[bytes], ...]]:
    """Files beside ``paths``, flushed to disk and renamed once the block has ended well.

    Several are renamed one after the other, the first one last. It is gone while the others change, so
    that whoever finds it finds those that belong to it.

    Raises:
        OSError: What the file system says; before the renaming, ``paths`` are then as they were.
    """
    parts = [path.with_name(f".{path.name}.{uuid.uuid4().hex}.part") for path in paths]
    try:
        with ExitStack() as opened:
            files = tuple(opened.enter_context(part.open("xb")) for part in parts)
            yield files
            for file in files:
                file.flush()
                os.fsync(file.fileno())
        if len(paths) > 1:
            paths[0].unlink(missing_ok=True)
        for part, path in reversed(list(zip(parts, paths, strict=True))):
            part.replace(path)
    except BaseException:
        for part in parts:
            part.unlink(missing_ok=True)
        raise


def write_parquet(path: Path, schema: Any, batches: Iterable[Any]) -> int:
    """Writes Arrow record batches to one Parquet file; gives the number of rows.

    Raises:
        OSError: What the file system says; ``path`` is then as it was before.
    """
    import pyarrow.parquet as pq

    rows = 0
    with whole_files(path) as (file,), pq.ParquetWriter(file, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
            rows += batch.num_rows
    return rows
