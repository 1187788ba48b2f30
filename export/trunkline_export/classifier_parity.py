"""A kept classifier on our vectors must name what the whole network names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trunkline_export.backbone import Backbone
from trunkline_export.classifier import Classifier
from trunkline_export.gate_images import GateImage
from trunkline_export.reference import Vectors, logits_of
from trunkline_service.errors import ParityError

# Two logits nearer to each other than this are a tie, which rounding may settle either way.
_TIE = 1e-3


def check_classifier(
    backbone: Backbone, classifier: Classifier, vectors: Vectors, images: Sequence[GateImage]
) -> None:
    """Compares the first choice of the head with that of the network.

    Args:
        backbone: Cut before the classifier.
        classifier: What was cut off, and the whole network.
        vectors: Of the exported graph on the images, float32 [N, dim].
        images: The gate's.

    Raises:
        ParityError: They name different classes for an image, other than by a tie.
    """
    wanted = logits_of(classifier.whole, backbone, images)
    chosen = (vectors @ classifier.weight.T + classifier.bias).argmax(axis=1)
    behind = wanted.max(axis=1) - np.take_along_axis(wanted, chosen[:, None], axis=1)[:, 0]
    # Written so that NaN fails.
    wrong = np.flatnonzero(~(behind <= _TIE))
    if len(wrong):
        first = int(wrong[0])
        raise ParityError(
            f"{backbone.source}: the kept classifier names {classifier.classes[int(chosen[first])]!r} for "
            f"{images[first].name}, the whole network {classifier.classes[int(wanted[first].argmax())]!r} "
            f"({len(wrong)} of {len(images)} images differ); something lies between the feature and the "
            "classifier. Export without --keep-classifier and fit a head. Nothing was published"
        )
