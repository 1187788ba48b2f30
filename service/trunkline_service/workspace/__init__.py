"""The workspace: models and data opened together, behind one facade."""

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
