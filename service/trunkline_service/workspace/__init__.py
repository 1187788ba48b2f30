"""The workspace: models and data opened together, behind one facade.

Names are looked up when they are asked for: front processes embed, and load nothing of heads and searches.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trunkline_service.workspace.answers import Added, Found, Predicted, Prediction
    from trunkline_service.workspace.exporting import ExportedHead
    from trunkline_service.workspace.facade import Workspace
    from trunkline_service.workspace.fitting import StageProgress
    from trunkline_service.workspace.migrate import Migrated
    from trunkline_service.workspace.predicting import PredictOptions
    from trunkline_service.workspace.suggesting import Suggested, SuggestedRow
    from trunkline_service.workspace.switch import RefittedHead, Switched

__all__ = [
    "Added",
    "ExportedHead",
    "Found",
    "Migrated",
    "PredictOptions",
    "Predicted",
    "Prediction",
    "RefittedHead",
    "StageProgress",
    "Suggested",
    "SuggestedRow",
    "Switched",
    "Workspace",
]

_PLACES = {
    "Added": "answers",
    "ExportedHead": "exporting",
    "Found": "answers",
    "Migrated": "migrate",
    "PredictOptions": "predicting",
    "Predicted": "answers",
    "Prediction": "answers",
    "RefittedHead": "switch",
    "StageProgress": "fitting",
    "Suggested": "suggesting",
    "SuggestedRow": "suggesting",
    "Switched": "switch",
    "Workspace": "facade",
}


def __getattr__(name: str) -> Any:
    """See PEP 562."""
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(f"{__name__}.{place}"), name)
    globals()[name] = found
    return found
