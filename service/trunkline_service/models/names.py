"""Moved to trunkline_service.names."""

from trunkline_service.names import check_name, near

__all__ = ["check_name", "near"]
