"""What is searched for: images, stored rows, or vectors of a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

import trunkline
from trunkline_service.cli import output
from trunkline_service.errors import InvalidArgument


@dataclass(frozen=True)
class Queries:
    """Exactly one of these is given.

    Attributes:
        images: Paths.
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
        """Their neighbours.

        Raises:
            InvalidArgument: The file can't be used.
        """
        if self.ids:
            return client.search(collection, ids=self.ids, **wishes)
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

    def sources(self, client: trunkline.Client, collection: str, count: int) -> Sequence[str | None]:
        """Where the image of each comes from; None for a vector, which has none."""
        if self.images:
            return [str(Path(image).absolute()) for image in self.images]
        if self.ids:
            return client.rows(collection, self.ids).sources
        return [None] * count


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
