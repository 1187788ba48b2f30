"""The model repository on disk, laid out as Triton's.

``<name>/config.pbtxt``, ``<name>/<version>/model.onnx`` and, ours, ``<name>/<version>/card.json``.
Reading takes no lock: a version's folder appears whole, by one rename, and is never written again.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from trunkline_service.errors import ModelFileError, ModelNotFound, StorageError
from trunkline_service.models import card as cards
from trunkline_service.models.card import ModelCard
from trunkline_service.models.identity import file_sha256
from trunkline_service.models.publishing import Held, held, versions_in
from trunkline_service.models.triton_config import MODEL_FILE, config_pbtxt
from trunkline_service.names import check_name, near, parse_reference

BUNDLED = Path(__file__).parent / "bundled"
CARD_FILE = "card.json"
_Stamp = tuple[int, int, int]
Stamp = tuple[tuple[int, int], ...]
# Far above the clock steps of any file system that folders of models are kept on.
_STEP_NS = 3_000_000_000


@dataclass(frozen=True)
class ModelFolder:
    """One published version.

    Attributes:
        path: ``<root>/<name>/<version>``.
        card: Its card.
    """

    path: Path
    card: ModelCard

    @property
    def onnx(self) -> Path:
        """The graph."""
        return self.path / MODEL_FILE

    def verify(self) -> None:
        """Compares ``model.onnx`` with the checksum in the card.

        Raises:
            ModelFileError: They differ, or the file can't be read.
        """
        try:
            found = file_sha256(self.onnx)
        except OSError as exc:
            raise ModelFileError(
                f"model {self.card.reference}: {MODEL_FILE} can't be read: {_why(exc)}"
            ) from exc
        if found != self.card.artifact.sha256:
            raise ModelFileError(
                f"model {self.card.reference}: card.json does not match {MODEL_FILE} (sha256 "
                f"{self.card.artifact.sha256[:12]}... in the card, {found[:12]}... on disk); "
                "export it again"
            )


class ModelRepository:
    """A folder of models, and behind it the one that comes with the package.

    Args:
        root: The folder; it need not exist yet.
        bundled: A second, read-only folder that names are also looked up in.
    """

    def __init__(self, root: Path, bundled: Path = BUNDLED) -> None:
        self.root = root
        self._bundled = bundled
        # Published versions are never written again, so a card is read once - unless somebody removed
        # the folder and another came in its place, which its stamp tells.
        self._folders: dict[Path, tuple[_Stamp, ModelFolder]] = {}

    def cards(self) -> tuple[list[ModelCard], list[ModelFileError]]:
        """All cards, by name and version, and what is wrong with the folders that have none."""
        found: list[ModelCard] = []
        problems: list[ModelFileError] = []
        for name in sorted(self._names()):
            for version in self._versions(name):
                try:
                    found.append(self._read(name, version).card)
                except ModelFileError as exc:
                    problems.append(exc)
        return found, problems

    def resolve(self, reference: str) -> ModelFolder:
        """The folder of ``name`` (its newest version) or ``name@version``.

        Raises:
            InvalidArgument: The reference can't be one.
            ModelNotFound: No such model or version; names what is near.
            ModelFileError: The card is missing, broken or of another model.
        """
        wanted = parse_reference(reference, "model")
        versions = self._versions(wanted.name)
        if not versions:
            raise ModelNotFound(
                f"no model {wanted.name!r}{near(wanted.name, self._names())}; "
                "'trunkline export SOURCE' makes one, 'trunkline models list' shows them"
            )
        version = versions[-1] if wanted.version is None else wanted.version
        if version not in versions:
            raise ModelNotFound(
                f"model {wanted.name!r} has no version {version}; it has {', '.join(map(str, versions))}"
            )
        return self._read(wanted.name, version)

    def stamp(self, name: str) -> Stamp | None:
        """What changes whenever a version of a model comes or goes; two calls of the system.

        None while a folder has been changed so lately that a further change might not show: file systems
        keep time in steps.
        """
        found = (_changed(f"{self.root}/{name}"), _changed(f"{self._bundled}/{name}"))
        now = time.time_ns()
        return None if any(abs(now - changed) < _STEP_NS for _, changed in found) else found

    def publish(self, onnx: Path, make_card: Callable[[int], ModelCard]) -> ModelFolder:
        """Publishes a graph as the next version of a model: whole, or not at all.

        Args:
            onnx: The finished file; it is copied.
            make_card: Gives the card for a version number (which is known only under the lock).

        Raises:
            ModelFileError: Earlier versions of this name have another input or output shape.
            StorageError: The folder can't be written.
        """
        name = check_name(make_card(1).name, "model")
        with self._writing(name) as folder:
            card = make_card(folder.next_version())
            return self._bring_in(folder, card, lambda made: _copy(onnx, made))

    def add(self, card: ModelCard, fill: Callable[[ModelFolder], None]) -> tuple[ModelFolder, bool]:
        """Adds a version that was published elsewhere, under its own number: whole, or not at all.

        Args:
            card: Its card.
            fill: Puts the graph into a folder that nobody sees yet, and looks whether it is right. It is
                not called where the same artifact is there already.

        Returns:
            The version's folder, and whether it was added now.

        Raises:
            InvalidArgument: The card's name can't be one.
            ModelFileError: Another model has this name and version, or another shape this name.
            StorageError: The folder can't be written.
        """
        check_name(card.name, "model")
        # Twice: who has it already needs neither the lock nor the right to write.
        there = self._same(card)
        if there is not None:
            return there, False
        with self._writing(card.name) as folder:
            there = self._same(card)
            if there is not None:
                return there, False
            return self._bring_in(folder, card, fill), True

    @contextlib.contextmanager
    def _writing(self, name: str) -> Iterator[Held]:
        try:
            with held(self.root / name) as folder:
                yield folder
        except OSError as exc:
            raise StorageError(
                f"can't write model {name!r} to {self.root}: {exc.strerror or exc}; nothing was published"
            ) from exc

    def _bring_in(self, folder: Held, card: ModelCard, fill: Callable[[ModelFolder], None]) -> ModelFolder:
        self._check_shape(card)
        with folder.aside() as made:
            fill(ModelFolder(made, card))
            (made / CARD_FILE).write_text(card.dumps(), encoding="utf-8")
            return ModelFolder(folder.show(made, card.version, config_pbtxt(card)), card)

    def _same(self, card: ModelCard) -> ModelFolder | None:
        """The folder that already holds the very model of a card; None if its number is free."""
        if card.version not in versions_in(self.root / card.name):
            return None
        there = self._read(card.name, card.version)
        if _identity(there.card) != _identity(card):
            raise ModelFileError(
                f"model {card.reference} is there already and is another one (artifact "
                f"{there.card.artifact.artifact_id} in {there.card.space_id}, this one is "
                f"{card.artifact.artifact_id} in {card.space_id}): take it under another --name"
            )
        there.verify()
        return there

    def _check_shape(self, card: ModelCard) -> None:
        """One config.pbtxt describes all versions of a name, so their shapes must agree."""
        for version in versions_in(self.root / card.name):
            try:
                earlier = self._read(card.name, version).card
            except ModelFileError:
                # Nobody can load that one, so nothing of it binds this one.
                continue
            if (earlier.dim, earlier.preprocess.input_size) != (card.dim, card.preprocess.input_size):
                raise ModelFileError(
                    f"model {card.name!r} has version {version} with dim {earlier.dim} and input "
                    f"{earlier.preprocess.input_size}; this one has dim {card.dim} and input "
                    f"{card.preprocess.input_size}: publish it under another --name"
                )

    def _names(self) -> set[str]:
        roots = [root for root in (self.root, self._bundled) if root.is_dir()]
        return {
            entry.name
            for root in roots
            for entry in root.iterdir()
            if entry.is_dir() and not entry.name.startswith((".", "_")) and versions_in(entry)
        }

    def _versions(self, name: str) -> list[int]:
        own = versions_in(self.root / name)
        # A user's model of the bundled one's name hides it, rather than mixing the two.
        return own or versions_in(self._bundled / name)

    def _read(self, name: str, version: int) -> ModelFolder:
        own = self.root / name / str(version)
        path = own if own.is_dir() else self._bundled / name / str(version)
        where = f"model {name}@{version}"
        try:
            stamp = _stamp(path / CARD_FILE)
            known = self._folders.get(path)
            if known is not None and known[0] == stamp:
                return known[1]
            text = (path / CARD_FILE).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            raise ModelFileError(f"{where} has no readable card.json ({_why(exc)}); export it again") from exc
        card = cards.loads(text, f"card.json of {where}")
        if (card.name, card.version) != (name, version):
            raise ModelFileError(
                f"{where} holds the card of {card.reference}: folders of models can't be renamed; "
                "export it again"
            )
        folder = ModelFolder(path, card)
        self._folders[path] = (stamp, folder)
        return folder


def _copy(onnx: Path, made: ModelFolder) -> None:
    shutil.copyfile(onnx, made.onnx)


def _identity(card: ModelCard) -> tuple[str, str, str]:
    return card.artifact.artifact_id, card.artifact.sha256, card.space_id


def _why(exc: OSError | UnicodeDecodeError) -> str:
    """What went wrong, without the path: callers of a server read this."""
    return (exc.strerror or type(exc).__name__) if isinstance(exc, OSError) else "not UTF-8"


def _changed(folder: str) -> tuple[int, int]:
    """Inode and time of the last change; zeros where there is no folder."""
    try:
        status = os.stat(folder)
    except OSError:
        return 0, 0
    return status.st_ino, status.st_mtime_ns


def _stamp(path: Path) -> _Stamp:
    status = path.stat()
    return status.st_ino, status.st_mtime_ns, status.st_size
