"""trunkline heads."""

from __future__ import annotations

from trunkline_service.cli.heads.exporting import export
from trunkline_service.cli.heads.fitting import fit
from trunkline_service.cli.heads.group import heads
from trunkline_service.cli.heads.migrating import migrate
from trunkline_service.cli.heads.moving import promote, rollback, shadow
from trunkline_service.cli.heads.naming import alias, unalias
from trunkline_service.cli.heads.removing import drop
from trunkline_service.cli.heads.reporting import report
from trunkline_service.cli.heads.showing import list_, show
from trunkline_service.cli.heads.suggesting import suggest

for _command in (
    *(fit, list_, show, report, suggest),
    *(promote, rollback, shadow, alias, unalias),
    *(export, migrate, drop),
):
    heads.add_command(_command)

__all__ = ["heads"]
