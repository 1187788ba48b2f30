"""The workspace: models and data opened together, behind one facade."""

from trunkline_service.workspace.answers import Added, Found, Predicted
from trunkline_service.workspace.facade import Workspace
from trunkline_service.workspace.switch import RefittedHead, Switched

__all__ = ["Added", "Found", "Predicted", "RefittedHead", "Switched", "Workspace"]
