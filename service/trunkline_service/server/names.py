"""The names of the services."""

from __future__ import annotations

NAMES = (
    "trunkline.v1.Embedding",
    "trunkline.v1.Models",
    "trunkline.v1.Collections",
    "trunkline.v1.Heads",
    "trunkline.v1.Search",
    "trunkline.v1.Explore",
    "inference.GRPCInferenceService",
)
