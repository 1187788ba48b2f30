"""The roles of the processes of a server. Each loads what it needs when it is made."""

from __future__ import annotations

from collections.abc import Mapping

from trunkline_service.server.processes.messages import Start
from trunkline_service.server.processes.role import Role, RoleFactory


def _device(start: Start) -> Role:
    from trunkline_service.server.processes.device import DeviceRole

    return DeviceRole(start)


def _data(start: Start) -> Role:
    from trunkline_service.server.processes.data import DataRole

    return DataRole(start)


def _front(start: Start) -> Role:
    from trunkline_service.server.processes.front import FrontRole

    return FrontRole(start)


ROLES: Mapping[str, RoleFactory] = {"device": _device, "data": _data, "front": _front}
