"""Fetching a published model, so that servers need no PyTorch: ``card.json``, then ``model.onnx``."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace

from trunkline_service.errors import ModelFileError
from trunkline_service.models import card as cards
from trunkline_service.models.card import ModelCard
from trunkline_service.models.identity import artifact_id
from trunkline_service.models.locations import Location, locate
from trunkline_service.models.plan import ExecutionPlan
from trunkline_service.models.repository import CARD_FILE, ModelFolder, ModelRepository
from trunkline_service.models.session import Device, ModelSession
from trunkline_service.models.triton_config import MODEL_FILE
from trunkline_service.models.web import Access
from trunkline_service.names import check_name, parse_version

CARD_LIMIT = 1024 * 1024
# An ONNX file, which is one protobuf message, ends here.
LARGEST = 2**31 - 1
_SPACE = re.compile(r"sp1-[0-9a-f]{32}")
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Pulled:
    """What ``pull`` did.

    Attributes:
        folder: The model in the repository.
        was_there: True if the repository had it before; then only its card was fetched.
    """

    folder: ModelFolder
    was_there: bool


def pull(
    uri: str,
    repository: ModelRepository,
    name: str | None = None,
    *,
    progress: Progress = lambda *_: None,
    access: Access | None = None,
) -> Pulled:
    """Fetches a published model into a repository, under the version number that its card has.

    It appears by one rename, after its checksum was right and it was loaded; before, nothing is visible.

    Args:
        uri: Of a version's folder (``s3://bucket/models/resnet18/1``) or of a model's (its newest
            version); see ``locations.locate``.
        repository: Where to put it.
        name: Of the model there; without it, the card's own.
        progress: Is told the bytes fetched so far, and those of the whole graph.
        access: How to reach places on the network.

    Raises:
        InvalidArgument: The URI or the name can't be used.
        ModelNotFound: Nothing is there.
        ModelFileError: What is there is no model, or not the one that its card promises; or the repository
            has another model of this name and version.
        StorageError: The place can't be read, or the repository not be written.
    """
    if name is not None:
        check_name(name, "model")
    location = locate(uri, access or Access())
    card = _card(location, name)
    folder, added = repository.add(card, lambda made: _fetch(location, made, progress))
    return Pulled(folder, was_there=not added)


def _card(location: Location, name: str | None) -> ModelCard:
    """The card, with all that its reader takes on trust looked at: it comes from outside."""
    where = f"{location}/{CARD_FILE}"
    text = _small(location, where)
    # Nesting too deep, integers too long, NaN, bytes that are no text: the parser's own errors.
    try:
        card = cards.loads(text.decode(), where)
        card.dumps()
    except (ValueError, RecursionError) as exc:
        raise ModelFileError(f"{where} is no card ({type(exc).__name__}); export the model again") from exc
    if parse_version(str(card.version)) is None:
        raise ModelFileError(f"{where}: version is {card.version}, which is no positive version number")
    folder = parse_version(str(location).rpartition("/")[2])
    if folder is not None and folder != card.version:
        raise ModelFileError(
            f"{where} is the card of {card.reference}: folders of models can't be renamed; export it again"
        )
    _check_values(card, where)
    promised = artifact_id(card.artifact.sha256, card.artifact.precision)
    if card.artifact.artifact_id != promised:
        raise ModelFileError(
            f"{where}: artifact_id is {card.artifact.artifact_id!r}, but the checksum and precision in it make "
            f"{promised!r}; export the model again"
        )
    return card if name is None else replace(card, name=name)


def _check_values(card: ModelCard, where: str) -> None:
    """What a card made by an export holds, and one made by somebody else may not."""
    texts = (card.source, card.architecture, card.weights, card.license, card.description, card.created_at)
    checks = {
        "artifact.bytes": 0 < card.artifact.bytes <= LARGEST,
        "artifact.precision": card.artifact.precision in ("fp32", "fp16", "int8"),
        "parity.status": card.parity.status in ("verified", "unverified"),
        "space_id": _SPACE.fullmatch(card.space_id) is not None,
        "text": all(text.isprintable() for text in (*texts, card.parity.reference, card.artifact.conversion)),
    }
    if wrong := [name for name, right in checks.items() if not right]:
        raise ModelFileError(
            f"{where} holds values that no export writes ({', '.join(wrong)}); export the model again"
        )


def _small(location: Location, where: str) -> bytes:
    text = bytearray()
    with closing(location.chunks(CARD_FILE)) as chunks:
        for chunk in chunks:
            text += chunk
            if len(text) > CARD_LIMIT:
                raise ModelFileError(f"{where} has more than {CARD_LIMIT} bytes, so it is no model's card")
    return bytes(text)


def _fetch(location: Location, made: ModelFolder, progress: Progress) -> None:
    """Puts the graph into a folder that nobody sees yet: the bytes that the card promises, and a model."""
    where = f"{location}/{MODEL_FILE}"
    promised = made.card.artifact
    digest = hashlib.sha256()
    done = 0
    progress(done, promised.bytes)
    with made.onnx.open("wb") as file, closing(location.chunks(MODEL_FILE)) as chunks:
        for chunk in chunks:
            done += len(chunk)
            if done > promised.bytes:
                raise ModelFileError(
                    f"{where} has more than the {promised.bytes} bytes that its card promises; "
                    "nothing was published. Export the model again"
                )
            digest.update(chunk)
            file.write(chunk)
            progress(done, promised.bytes)
    if done < promised.bytes:
        raise ModelFileError(
            f"{where} ends after {done} of {promised.bytes} bytes; nothing was published. "
            "Run it again, or export the model again"
        )
    if digest.hexdigest() != promised.sha256:
        raise ModelFileError(
            f"{where} is not the file that its card promises (sha256 {promised.sha256[:12]}... in the card, "
            f"{digest.hexdigest()[:12]}... fetched); nothing was published. Export the model again"
        )
    # Loads it, and compares inputs and outputs with the card.
    ModelSession(made, Device("cpu"), ExecutionPlan(threads=1, runs=1, batch=1))
