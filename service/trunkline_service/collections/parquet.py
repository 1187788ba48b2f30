"""Record batches into one Parquet file that appears whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def write_parquet(path: Path, schema: Any, batches: Iterable[Any]) -> int:
    """Writes the batches beside ``path``, flushes them to disk and renames; gives the number of rows.

    Raises:
        OSError: What the file system says; ``path`` is then as it was before.
    """
    import pyarrow.parquet as pq

    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        rows = 0
        with part.open("xb") as file:
            with pq.ParquetWriter(file, schema) as writer:
                for batch in batches:
                    writer.write_batch(batch)
                    rows += batch.num_rows
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return rows
