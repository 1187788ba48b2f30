"""Where the metrics are shown, if anywhere."""

from __future__ import annotations

from collections.abc import Callable

from trunkline_service.errors import SettingsError
from trunkline_service.server.listening import Security, check_exposure, parse_address
from trunkline_service.server.metrics import MetricsPage


def open_page(
    listen: str, security: Security, serve: Callable[[str, int], MetricsPage]
) -> MetricsPage | None:
    """Opens the page; None where nobody wants one.

    Args:
        listen: ``host:port``, or empty.
        security: Whether plain text may be shown beyond this machine.
        serve: Serves the page on a host and a port.

    Raises:
        SettingsError: The address is wrong, taken, or reachable from outside.
    """
    if not listen:
        return None
    wanted = parse_address(listen, "--metrics-listen")
    # The page is plain text, whatever protects the port of the calls.
    check_exposure(wanted, None, security.insecure, "--metrics-listen")
    try:
        return serve(wanted.host, wanted.port)
    except OSError as exc:
        raise SettingsError(f"can't serve metrics on {wanted}: {exc.strerror or exc}") from exc
