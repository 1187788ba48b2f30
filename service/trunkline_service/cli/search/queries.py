"""What is searched for: images, stored rows, or vectors of a file."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import click
import grpc
import numpy as np
from numpy.typing import NDArray

import trunkline
from trunkline_service.cli import output
from trunkline_service.errors import InvalidArgument

# Each of a folder's images is a query of its own, with hits of its own to be read.
MOST_OF_FOLDERS = 1000
_PER_QUERY = ("ids", "scores", "labels", "sources", "groups", "duplicates", "metadata")


def expanded(images: Sequence[str]) -> tuple[str, ...]:
    """The paths, and for each folder those of the images below it, in order.

    Raises:
        click.UsageError: There are too many below the folders, or none below one of them.
    """
    found: list[str] = []
    room = MOST_OF_FOLDERS
    for image in images:
        if not os.path.isdir(image):
            found.append(image)
            continue
        below = _below(image, room + 1)
        if len(below) > room:
            raise click.UsageError(
                f"with {image!r}, these folders hold more than {MOST_OF_FOLDERS:,} images, each of which is a query; "
                "give a folder of fewer, or name the files"
            )
        found += below
        room -= len(below)
    return tuple(found)


def _below(folder: str, most: int) -> list[str]:
    """Paths of the first images below a folder, as `trunkline embed` would find them."""
    from trunkline_service.jobs.sources.folder import FolderSource

    try:
        return [
            os.path.join(folder, item.id) for item in itertools.islice(FolderSource(folder).items(), most)
        ]
    except InvalidArgument as exc:
        raise click.UsageError(str(exc)) from exc


@dataclass(frozen=True)
class Queries:
    """Exactly one of these is given.

    Attributes:
        images: Paths of files.
        ids: Of rows of the collection.
        file: An ``.npy`` file of vectors; None for none.
        space: Of these; None where nobody says.

    Raises:
        click.UsageError: None of them, or several; a space without vectors.
    """

    images: tuple[str, ...]
    ids: tuple[str, ...]
    file: Path | None
    space: str | None

    def __post_init__(self) -> None:
        kinds = {"IMAGE": self.images, "--id": self.ids, "--vector": self.file}
        given = [name for name, value in kinds.items() if value]
        if len(given) != 1:
            got = f"{' and '.join(given)} were given" if given else "none of them was given"
            raise click.UsageError(f"give exactly one of IMAGE..., --id and --vector; {got}")
        if self.space is not None and self.file is None:
            raise click.UsageError("--space is about the vectors of --vector FILE; give that too")

    def search(
        self, client: trunkline.Client, collection: str, wishes: dict[str, Any]
    ) -> trunkline.SearchResult:
        """Their neighbours; of an image or a row that can't be a query, the failure.

        Raises:
            InvalidArgument: The file can't be used.
        """
        if self.ids:
            return self._of_rows(client, collection, wishes)
        if self.file is None:
            return client.search(collection, self.images, **wishes)
        vectors = _read(self.file)
        space = self.space
        if space is None:
            space = client.collection(collection).space_id
            output.note(
                f"{self.file} is taken to lie in the space of {collection}, {space}; --space states theirs"
            )
        return client.search(collection, vectors=vectors, space_id=space, **wishes)

    def names(self, count: int) -> list[str]:
        """What people and programs call each of ``count`` queries."""
        if self.file is None:
            return list(self.images or self.ids)
        return [f"{self.file}[{index}]" for index in range(count)]

    def sources(
        self, client: trunkline.Client, collection: str, found: trunkline.SearchResult
    ) -> Sequence[str | None]:
        """Where the image of each comes from; None for a vector, which has none, and for a row that failed."""
        if self.images:
            return [str(Path(image).absolute()) for image in self.images]
        if self.file is not None:
            return [None] * len(found)
        failed = {failure.index for failure in found.errors}
        good = [row_id for index, row_id in enumerate(self.ids) if index not in failed]
        known = iter(client.rows(collection, good, vectors=False).sources if good else ())
        return [None if index in failed else next(known) for index in range(len(self.ids))]

    def _of_rows(
        self, client: trunkline.Client, collection: str, wishes: dict[str, Any]
    ) -> trunkline.SearchResult:
        """A search knows all of its rows or none; those that can't be queries are told apart by a second look."""
        try:
            return client.search(collection, ids=self.ids, **wishes)
        except (trunkline.NotFound, trunkline.InvalidRequest):
            failures = _failures(client, collection, self.ids)
            if not failures:
                raise
        failed = {failure.index for failure in failures}
        good = [index for index in range(len(self.ids)) if index not in failed]
        if good:
            found = client.search(collection, ids=[self.ids[index] for index in good], **wishes)
        else:
            found = trunkline.SearchResult(ids=[], scores=[], labels=[], sources=[])
        return _spread(found, good, self.ids, failures)


def _failures(client: trunkline.Client, collection: str, ids: Sequence[str]) -> list[trunkline.ItemFailure]:
    """Of the ids that have no row, or none with a vector."""
    marks = ", ".join("?" * len(ids))
    batches = client.scan(collection, ["status", "error"], f"id IN ({marks})", ids, vectors=False)
    why = {
        row_id: None if status == "ok" else f"the row has no embedding ({error}); it can't be a query"
        for rows in batches
        for row_id, status, error in zip(rows.ids, rows.statuses, rows.errors, strict=True)
    }
    unknown = f"collection {collection!r} has no such row"
    told = [(index, row_id, why.get(row_id, unknown)) for index, row_id in enumerate(ids)]
    return [
        trunkline.ItemFailure(index, row_id, "no_embedding", message)
        if row_id in why
        else trunkline.ItemFailure(index, row_id, "row_not_found", message, grpc.StatusCode.NOT_FOUND)
        for index, row_id, message in told
        if message is not None
    ]


def _spread(
    found: trunkline.SearchResult,
    good: Sequence[int],
    ids: Sequence[str],
    failures: list[trunkline.ItemFailure],
) -> trunkline.SearchResult:
    """Answers to the good queries as answers to all of them; those that failed have no hits."""
    lists: dict[str, Any] = {}
    for name in {field.name for field in fields(found)}.intersection(_PER_QUERY):
        hits: list[Any] = [[] for _ in ids]
        for index, own in zip(good, getattr(found, name), strict=False):
            hits[index] = own
        lists[name] = hits
    return replace(found, **lists, inputs=list(ids), errors=failures)


def _read(path: Path) -> NDArray[Any]:
    try:
        found = np.load(path, allow_pickle=False)
    except OSError as exc:
        raise InvalidArgument(f"{path} can't be read: {exc.strerror or exc}") from exc
    except (ValueError, EOFError) as exc:
        # NumPy's own words advise to read it as a pickle, which runs what is in it.
        raise InvalidArgument(
            f"{path} can't be read as .npy with numbers; save vectors with numpy.save, (N, dim), and give an image "
            "without --vector"
        ) from exc
    if not isinstance(found, np.ndarray):
        found.close()
        raise InvalidArgument(f"{path} holds several arrays; save one as .npy, (N, dim)")
    return found
