"""trunkline search."""

from trunkline_service.cli.search.command import search

__all__ = ["search"]
