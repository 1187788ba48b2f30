"""trunkline collections."""

from __future__ import annotations

from trunkline_service.cli.collections.exchanging import export, import_
from trunkline_service.cli.collections.exploring import clusters, duplicates, map_, outliers
from trunkline_service.cli.collections.group import collections
from trunkline_service.cli.collections.indexing import index
from trunkline_service.cli.collections.naming import alias, aliases, unalias
from trunkline_service.cli.collections.relabelling import relabel
from trunkline_service.cli.collections.removing import delete, drop, purge
from trunkline_service.cli.collections.showing import get, list_, show
from trunkline_service.cli.collections.switching import switch
from trunkline_service.cli.collections.versioning import compact, restore, tag, untag, versions

for _command in (
    *(list_, show, get, export, import_, relabel, delete, purge, drop),
    *(versions, tag, untag, restore, compact, alias, unalias, aliases, switch, index),
    *(duplicates, outliers, clusters, map_),
):
    collections.add_command(_command)

__all__ = ["collections"]
