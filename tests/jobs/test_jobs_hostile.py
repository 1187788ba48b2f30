"""A source of which 5% is hostile: the right rows, the right reasons, and the job ends by itself."""

from __future__ import annotations

import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image


def saved(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def png_bomb(side=40_000):
    """A few hundred bytes that claim 1.6 gigapixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000))


@pytest.fixture
def hostile(tmp_path, png):
    root = tmp_path / "hostile"
    root.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    for number in range(190):
        (root / f"good{number:03d}.png").write_bytes(png(np.full((32, 32, 3), number, np.uint8)))
    expected = {
        "truncated.png": (png(noise)[:400], "truncated_image"),
        "text.jpg": (b"<html>not found</html>", "unsupported_image"),
        "bomb.png": (png_bomb(), "image_too_large"),
        "zero.jpg": (b"", "empty_image"),
        # These two are images like others.
        "cmyk.jpg": (saved(Image.fromarray(noise).convert("CMYK"), "JPEG"), None),
        "sixteen.png": (saved(Image.fromarray(noise[:, :, 0].astype(np.uint16) * 257), "PNG"), None),
    }
    for name, (data, _) in expected.items():
        (root / name).write_bytes(data)
    os.mkfifo(root / "fifo.jpg")
    (root / "broken.jpg").symlink_to(root / "nowhere")
    with (root / "huge.jpg").open("wb") as file:
        file.truncate(200 * 1024 * 1024)
    (root / "folder.jpg").mkdir()
    reasons = {name: reason for name, (_, reason) in expected.items()}
    return root, reasons | {
        "fifo.jpg": "unreadable_file",
        "broken.jpg": "unreadable_file",
        "huge.jpg": "image_too_large",
    }


def test_hostile_files_become_rows_with_their_reasons(hostile, workspace, job):
    root, expected = hostile
    result = job(root)
    rows = {row["id"]: row for batch in workspace.collections.open("c").scan() for row in batch.to_pylist()}
    assert len(rows) == 190 + len(expected)
    for name, reason in expected.items():
        row = rows[name]
        assert (row["status"], (row["error"] or "").partition(":")[0]) == (
            ("ok", "") if reason is None else ("error", reason)
        )
        assert (row["embedding"] is None) == (reason is not None)
    assert all(row["status"] == "ok" for name, row in rows.items() if name.startswith("good"))
    assert result.embedded == 192
    assert sum(result.errors.values()) == 7
    # Once repaired, the failed ones alone are done.
    (root / "text.jpg").write_bytes((root / "cmyk.jpg").read_bytes())
    again = job(root, retry_failed=True)
    assert (again.embedded, again.unchanged, sum(again.errors.values())) == (1, 192, 6)
