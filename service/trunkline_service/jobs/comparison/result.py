"""What a comparison of models found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trunkline_service.heads.evaluation.evaluate import Evaluation


@dataclass(frozen=True)
class Paired:
    """A model against the most accurate one, image by image.

    Attributes:
        only_best: Images that the most accurate model alone got right.
        only_this: Images that this model alone got right.
        p_value: Of McNemar's exact test.
        p_corrected: The same after Holm's correction for the number of models.
    """

    only_best: int
    only_this: int
    p_value: float
    p_corrected: float


@dataclass(frozen=True)
class Compared:
    """One model's part in a comparison.

    Attributes:
        model: ``name@version``.
        collection: Where its vectors are.
        space_id: Their space.
        artifact_id: The file that made them.
        pretrained: False for random weights.
        dim: Length of an embedding.
        precision: ``fp32``, ``fp16`` or ``int8``.
        size_bytes: Of ``model.onnx``.
        images_per_second: Through this workspace's engine, decoding included.
        evaluation: Out-of-fold figures of a head on its vectors.
        paired: Against the most accurate model; None for that one itself.
        worse: Whether it is significantly less accurate than that one.
        embedded: Images embedded in this run.
        unchanged: Images whose vectors were there.
        failed: Images of the folder without a vector, by reason.
        notes: On this model alone, in sentences.
    """

    model: str
    collection: str
    space_id: str
    artifact_id: str
    pretrained: bool
    dim: int
    precision: str
    size_bytes: int
    images_per_second: float
    evaluation: Evaluation
    paired: Paired | None
    worse: bool
    embedded: int
    unchanged: int
    failed: Mapping[str, int]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class LeftOut:
    """Images of the folder that no model was judged by.

    Attributes:
        unlabelled: Without a label.
        failed: Labelled, but some model has no vector for them; by reason.
        single: The only image of their label.
    """

    unlabelled: int
    failed: Mapping[str, int]
    single: int


@dataclass(frozen=True)
class Comparison:
    """Models side by side.

    Attributes:
        results: The most accurate first; of the equally accurate the faster one.
        picked: The position of the one to take.
        reason: Why, in a sentence.
        into: The common beginning of the collections' names.
        kind: Of the heads.
        folds: Of the cross-validation.
        seed: Of the folds.
        rows: Images that every model was judged by.
        labels: Distinct labels among them.
        left_out: The others.
        splits: Images by split, as the folder gives them; not used.
        device: Where the models ran.
        threads: For decoding, and for a model on the CPU.
        timed: Images of the sample that was timed.
        notes: What holds for all models and deserves a look, in sentences.
    """

    results: tuple[Compared, ...]
    picked: int
    reason: str
    into: str
    kind: str
    folds: int
    seed: int
    rows: int
    labels: int
    left_out: LeftOut
    splits: Mapping[str, int]
    device: str
    threads: int
    timed: int
    notes: tuple[str, ...]

    @property
    def pick(self) -> Compared:
        """The one to take."""
        return self.results[self.picked]
