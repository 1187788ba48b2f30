"""WebDataset shards: tar files in which members of one stem are one sample."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple

from trunkline_service.errors import UnreadableFile
from trunkline_service.jobs.sources.containers import is_member, member_source, split_member
from trunkline_service.jobs.sources.item import Scalar, SourceItem
from trunkline_service.jobs.sources.layout import IMAGE_SUFFIXES, label_and_split, suffix_of, text_of
from trunkline_service.jobs.sources.locations import Locations, Stamp, opened, shown, stamp_of
from trunkline_service.jobs.sources.pattern import is_url
from trunkline_service.jobs.sources.source import ListedSource, Listing
from trunkline_service.jobs.sources.tars import Member, members, part_reader
from trunkline_service.jobs.sources.values import column_name, said, scalar

_COMPANIONS = frozenset({"cls", "json", "txt"})
_MOST_COMPANION = 1024 * 1024
# Listing a remote shard fetches its images too.
_REMOTE_HEAD = 200
_NO_IMAGE = "sample without an image"
_MORE_IMAGES = "further image of a sample"


class _Name(NamedTuple):
    """A member's name, cut: its sample, and the suffixes."""

    key: str
    kind: str


@dataclass
class _Sample:
    key: str
    image: Member | None = None
    companions: dict[str, bytes] = field(default_factory=dict)


class WebDatasetSource(ListedSource):
    """The images of tar shards.

    Members that share the name up to the first dot are a sample: its image, its label in ``.cls``, its
    text in ``.txt`` (a column ``txt``), its columns in ``.json`` (``label`` and ``split`` are taken as
    such). Further images of a sample are left out. Ids are
    ``<shard without .tar>/<name up to the first dot>``. A shard that is damaged is a problem, and the
    others go on. Local shards are read by offset; remote ones are fetched once to be listed, and each
    image again to be embedded.

    Args:
        text: A path or URL of a tar, with ``*`` or ``{000..123}`` for several.
        id_prefix: Stands before every id.
    """

    _labels_from = "from .cls and .json"
    _no_labels = "no labels (no .cls, no label in .json)"

    def __init__(self, text: str, id_prefix: str = "") -> None:
        self._locations = Locations(text)
        super().__init__(self._locations.uri, id_prefix)
        if is_url(text):
            self._head = _REMOTE_HEAD

    @property
    def multi_label(self) -> bool:
        """See ``Source.multi_label``."""
        return self._lists_in_head()

    def covers(self, row_id: str, source: str) -> bool:
        """Whether it is an image in one of these shards, with the id of its sample."""
        if not is_member(source):
            return False
        location, member = split_member(source)
        if not self._locations.has(location) or suffix_of(member) not in IMAGE_SUFFIXES:
            return False
        name = _name_of(member)
        return name is not None and row_id == self._id(location, name.key)

    def _nothing(self) -> str:
        return f"no image in {self.uri!r} (looked for .tar files and in them for images)"

    def _list(self, listing: Listing) -> Iterator[SourceItem]:
        for location in self._locations.find():
            try:
                stamp = stamp_of(location)
                with opened(location) as file:
                    yield from self._shard(location, stamp, file, listing)
            except UnreadableFile as exc:
                listing.problem(f"{shown(location)}: {exc.message}")

    def _shard(self, location: str, stamp: Stamp, file: BinaryIO, listing: Listing) -> Iterator[SourceItem]:
        name = shown(location)
        sample = _Sample("")

        def damaged(where: str) -> None:
            listing.problem(f"{name}: {where}; its images from there on are missing")

        for member in members(file, damaged):
            found = _name_of(member.name)
            if found is None:
                continue
            if found.key != sample.key:
                yield from self._item(location, stamp, sample, listing)
                sample = _Sample(found.key)
            self._add(sample, member, found.kind, file, listing, name)
        yield from self._item(location, stamp, sample, listing)

    def _add(
        self, sample: _Sample, member: Member, kind: str, file: BinaryIO, listing: Listing, shard: str
    ) -> None:
        if suffix_of(member.name) in IMAGE_SUFFIXES:
            if sample.image is not None:
                listing.left_out[_MORE_IMAGES] += 1
            # Of a.jpg and a.mask.png the one with the plain suffix is the image.
            if sample.image is None or (f".{kind}" in IMAGE_SUFFIXES and not _is_plain(sample.image)):
                sample.image = member
        elif kind not in _COMPANIONS:
            listing.left_out[suffix_of(member.name) or "no suffix"] += 1
        elif member.size > _MOST_COMPANION:
            listing.problem(f"{shard}: {member.name} has {member.size:,} bytes; it was not used")
        else:
            file.seek(member.offset)
            sample.companions[kind] = file.read(member.size)

    def _item(self, location: str, stamp: Stamp, sample: _Sample, listing: Listing) -> Iterator[SourceItem]:
        if not sample.key:
            return
        image = sample.image
        if image is None:
            listing.left_out[_NO_IMAGE] += 1
            return
        shard = self._locations.name_of(location)
        try:
            label, split, metadata = _said(sample.companions)
        except ValueError as exc:
            listing.problem(f"{shown(location)}: {sample.key}: {exc}")
            label, split, metadata = None, None, {}
        yield SourceItem(
            id=self._id(location, sample.key),
            source=member_source(text_of(location), image.name),
            read=part_reader(location, stamp, image),
            label=label,
            split=split or label_and_split(shard.split("/")[:-1])[1],
            size=image.size,
            mtime=stamp.mtime,
            metadata=metadata,
        )

    def _id(self, location: str, key: str) -> str:
        return f"{self.id_prefix}{self._locations.name_of(location).removesuffix('.tar')}/{key}"


def _name_of(member: str) -> _Name | None:
    """What a member's name says; None for a hidden file."""
    folder, _, base = member.removeprefix("./").rpartition("/")
    if base.startswith("."):
        return None
    stem, _, kind = base.partition(".")
    return _Name(f"{folder}/{stem}" if folder else stem, kind.lower())


def _said(
    companions: dict[str, bytes],
) -> tuple[str | tuple[str, ...] | None, str | None, dict[str, Scalar]]:
    """Label, split and columns of a sample."""
    try:
        texts = {kind: data.decode() for kind, data in companions.items()}
        document = json.loads(texts.pop("json", "{}"))
    except ValueError as exc:
        raise ValueError(f"its .cls, .txt or .json can't be read: {exc}") from exc
    if not isinstance(document, dict):
        raise ValueError("its .json is no object")
    label = document.pop("label", None)
    split = document.pop("split", None)
    metadata = said(
        (column_name(name), scalar(value))
        for name, value in document.items()
        if isinstance(value, str | int | float)
    )
    if "txt" in texts:
        metadata.setdefault("txt", texts["txt"].strip())
    if "cls" in texts:
        label = texts["cls"].strip() or None
    return _label(label), split if isinstance(split, str) else None, metadata


def _label(label: object) -> str | tuple[str, ...] | None:
    if isinstance(label, list):
        return tuple(map(str, label))
    return None if label is None or label == "" else str(label)


def _is_plain(member: Member) -> bool:
    return member.name.rpartition("/")[2].count(".") == 1
