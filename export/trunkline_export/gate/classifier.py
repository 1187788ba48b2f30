"""A kept classifier on our vectors must name what the whole network names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trunkline_export.backbone import Backbone
from trunkline_export.classifier import Classifier
from trunkline_export.gate.images import GateImage
from trunkline_export.gate.reference import Vectors, logits_of
from trunkline_service.errors import ParityError

# Of the spread of an image's logits: far above rounding, far below what a wrong class or scale would give.
_BOUND = 1e-3


def check_classifier(
    backbone: Backbone, classifier: Classifier, vectors: Vectors, images: Sequence[GateImage]
) -> None:
    """Compares every logit of the head with the network's, and so the first choice too.

    Args:
        backbone: Cut before the classifier.
        classifier: What was cut off, and the whole network.
        vectors: Of the exported fp32 graph on the images, float32 [N, dim].
        images: The gate's.

    Raises:
        ParityError: A logit differs by more than a thousandth of the spread of its image's logits.
    """
    wanted = logits_of(classifier.whole, backbone, images)
    found = vectors @ classifier.weight.T + classifier.bias
    differences = np.abs(found - wanted).max(axis=1) / np.ptp(wanted, axis=1)
    # Written so that NaN fails.
    wrong = np.flatnonzero(~(differences <= _BOUND))
    if len(wrong):
        first = int(wrong[0])
        raise ParityError(
            f"{backbone.source}: the kept classifier names {classifier.classes[int(found[first].argmax())]!r} for "
            f"{images[first].name}, the whole network {classifier.classes[int(wanted[first].argmax())]!r}; their "
            f"logits differ for {len(wrong)} of {len(images)} images, by up to {differences.max():.1%} of the spread. "
            "Something lies between the feature and the classifier. Export without --keep-classifier and fit a "
            "head. Nothing was published"
        )
