"""Stands before the peers' module `common`: theirs in all but the decoding, which is Trunkline's.

It is copied beside theirs under that name; `trunkline_service` and Pillow are linked beside it.
"""

import json
import os
from pathlib import Path

import common_of_the_peers as theirs
from common_of_the_peers import *  # noqa: F403

from trunkline_service.images.inputs import EncodedImage, prepare
from trunkline_service.images.preprocess import Preprocess
from trunkline_service.settings import ImageLimits

LIMITS = ImageLimits()
SPEC = Preprocess.from_json(
    json.loads(Path(os.environ["BENCH_MODEL"]).with_name("card.json").read_text())["preprocess"]
)


def preprocess(data, out=None):
    """uint8 [height, width, 3] of an encoded image, by the model's card."""
    return prepare(EncodedImage(data), SPEC, "exact", LIMITS, out)


theirs.preprocess = preprocess
