"""The model card: the JSON beside a model that says all about it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from trunkline_service.errors import ModelFileError
from trunkline_service.images.preprocess import Preprocess
from trunkline_service.models.identity import OutputSpec

SCHEMA_VERSION = 1
T = TypeVar("T")


@dataclass(frozen=True)
class Artifact:
    """One exported file.

    Attributes:
        artifact_id: Identity of the file and its precision.
        precision: ``fp32``, ``fp16`` or ``int8``.
        sha256: Of ``model.onnx``.
        bytes: Its size.
        opset: ONNX operator set.
        conversion: How it was made from the fp32 graph, in words; empty for that graph itself.
    """

    artifact_id: str
    precision: str
    sha256: str
    bytes: int
    opset: int
    conversion: str = ""


@dataclass(frozen=True)
class ParityRecord:
    """A run of the parity gate: the artifact against the reference, over images (contract 2).

    Where a part could not be compared its figures are None: the pixels, where only vectors are known of the
    reference; all of them, where there is none.

    Attributes:
        status: ``verified``, or ``unverified`` where there was no reference to compare with.
        reference: What it was compared with, in words.
        images: How many images, lossless and JPEG together.
        pixels_lossless_max: Largest difference of the preprocessed uint8 tensor, lossless images.
        pixels_jpeg_max: The same for JPEG images.
        pixels_jpeg_bound: What JPEG images were allowed.
        cosine_min: Smallest cosine between the artifact's vector and the reference's.
        cosine_mean: Mean of those cosines.
        cosine_required: The least allowed minimum (fp32, fp16) or mean (int8).
        separation_median: Median of 1 - cosine between *different* images of the reference.
        separation_share: Largest 1 - cosine to the reference, as a share of that median.
        separation_allowed: The largest allowed share.
    """

    status: str
    reference: str
    images: int
    pixels_lossless_max: int | None
    pixels_jpeg_max: int | None
    pixels_jpeg_bound: int
    cosine_min: float | None
    cosine_mean: float | None
    cosine_required: float | None
    separation_median: float | None
    separation_share: float | None
    separation_allowed: float | None


@dataclass(frozen=True)
class BatchRecord:
    """How far the company of other images may move a vector (contract 3).

    Attributes:
        sizes: Batch sizes that were run after the export.
        bound: The largest allowed relative difference, |a - b| / |a| in the L2 norm.
        measured: The largest seen.
    """

    sizes: tuple[int, ...]
    bound: float
    measured: float


@dataclass(frozen=True)
class ModelCard:
    """All about one model; ``card.json`` beside ``model.onnx``.

    Attributes:
        name: Of the model in its repository.
        version: A positive integer.
        source: What was exported, e.g. ``timm:deit_tiny_patch16_224``.
        architecture: ``library/name``, as hashed into the space.
        pretrained: False for random weights, whose vectors mean nothing.
        weights: Where the weights came from, in words, without paths of the exporting machine.
        license: Of the weights, as far as their library says; empty if it does not.
        parameters: Number of values in the weights.
        dim: Length of an embedding.
        output: Where the network was cut.
        preprocess: The transform before the network, all but normalisation done outside the graph.
        conventions: How unusual images are read (EXIF, CMYK, 16 bit, alpha), in words.
        space_id: The vector space.
        artifact: The file.
        parity: The gate's run.
        batch: Batch invariance.
        created_at: ISO 8601, UTC.
        tools: Versions of what exported it.
        description: A sentence for people; may be empty.
    """

    name: str
    version: int
    source: str
    architecture: str
    pretrained: bool
    weights: str
    license: str
    parameters: int
    dim: int
    output: OutputSpec
    preprocess: Preprocess
    conventions: Mapping[str, str]
    space_id: str
    artifact: Artifact
    parity: ParityRecord
    batch: BatchRecord
    created_at: str
    tools: Mapping[str, str]
    description: str = ""

    @property
    def reference(self) -> str:
        """``name@version``."""
        return f"{self.name}@{self.version}"

    def to_json(self) -> dict[str, Any]:
        """The card as plain JSON values, the schema's version first."""
        document = dataclasses.asdict(self)
        document["preprocess"] = self.preprocess.to_json()
        document["conventions"] = dict(self.conventions)
        document["tools"] = dict(self.tools)
        document["batch"]["sizes"] = list(self.batch.sizes)
        return {"schema_version": SCHEMA_VERSION, **document}

    def dumps(self) -> str:
        """The text of ``card.json``."""
        return json.dumps(self.to_json(), indent=2, allow_nan=False) + "\n"


def loads(text: str, where: str) -> ModelCard:
    """Reads a card.

    Args:
        text: Of ``card.json``.
        where: What to call it in an error.

    Raises:
        ModelFileError: Not JSON, another schema, a field that is missing, unknown or of a wrong type.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise ModelFileError(f"{where} is not JSON ({exc}); export the model again") from exc
    if not isinstance(document, dict):
        raise ModelFileError(f"{where} holds no JSON object; export the model again")
    schema = document.pop("schema_version", None)
    if schema != SCHEMA_VERSION:
        raise ModelFileError(
            f"{where} has schema version {schema!r} and this Trunkline reads {SCHEMA_VERSION}; "
            "upgrade Trunkline, or export the model again"
        )
    preprocess = document.get("preprocess")
    if not isinstance(preprocess, dict):
        raise ModelFileError(f"{where}: 'preprocess' is missing; export the model again")
    fields = dict(document)
    fields["preprocess"] = Preprocess.from_json(preprocess)
    fields["output"] = _part(OutputSpec, document.get("output"), f"{where}: output")
    fields["artifact"] = _part(Artifact, document.get("artifact"), f"{where}: artifact")
    fields["parity"] = _part(ParityRecord, document.get("parity"), f"{where}: parity")
    batch = _part(BatchRecord, document.get("batch"), f"{where}: batch")
    sizes: object = batch.sizes
    if not isinstance(sizes, list) or not all(isinstance(size, int) for size in sizes):
        raise ModelFileError(f"{where}: batch sizes are {sizes!r}, which is no list of integers")
    for name in ("conventions", "tools"):
        if not isinstance(fields.get(name), dict):
            raise ModelFileError(f"{where}: {name} is {fields.get(name)!r}, which is no object")
    fields["batch"] = dataclasses.replace(batch, sizes=tuple(sizes))
    return _part(ModelCard, fields, where)


def _part(kind: type[T], value: object, where: str) -> T:
    """Builds a dataclass from a JSON object, strictly."""
    if not isinstance(value, dict):
        raise ModelFileError(f"{where} is missing or no object; export the model again")
    slots = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(value) - set(slots))
    required = {name for name, field in slots.items() if field.default is dataclasses.MISSING}
    missing = sorted(required - set(value))
    if unknown or missing:
        raise ModelFileError(
            f"{where}: unknown fields {unknown}, missing fields {missing}; export the model again"
        )
    scalars: dict[str, type | tuple[type, ...]] = {
        "str": str,
        "int": int,
        "bool": bool,
        "float": (int, float),
        "int | None": (int, type(None)),
        "float | None": (int, float, type(None)),
    }
    for name, item in value.items():
        wanted = scalars.get(str(slots[name].type))
        if wanted and (not isinstance(item, wanted) or (isinstance(item, bool) and wanted is not bool)):
            raise ModelFileError(f"{where}: {name} is {item!r}, which is no {slots[name].type}")
    return kind(**value)
