"""A port that several processes of one server share, and nobody else."""

from __future__ import annotations

import socket

import pytest

from trunkline_service.errors import SettingsError
from trunkline_service.server.listening import Address
from trunkline_service.server.processes.port import reserve


def listener(address, shared):
    """Listens as gRPC does; the caller closes it."""
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shared))
    try:
        one.bind((address.host, address.port))
    except OSError:
        one.close()
        raise
    one.listen()
    return one


@pytest.fixture
def reserved():
    held = reserve(Address("127.0.0.1", 0))
    yield held
    held.close()


def test_a_free_port_is_found_and_nobody_is_connected_to_who_only_holds_it(reserved):
    assert reserved.address.port
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((reserved.address.host, reserved.address.port))


def test_who_shares_listens_and_gets_every_connection(reserved):
    with listener(reserved.address, shared=True) as one, listener(reserved.address, shared=True) as two:
        two.close()
        place = (reserved.address.host, reserved.address.port)
        for _ in range(8):
            with socket.create_connection(place), one.accept()[0]:
                pass


def test_a_server_that_does_not_share_is_refused(reserved):
    with pytest.raises(OSError, match="in use"):
        listener(reserved.address, shared=False)


@pytest.mark.parametrize("shared", [True, False])
def test_a_port_on_which_somebody_listens_is_refused(shared):
    with listener(Address("127.0.0.1", 0), shared) as other:
        taken = Address("127.0.0.1", other.getsockname()[1])
        with pytest.raises(SettingsError, match="another server"):
            reserve(taken)


def test_a_port_that_another_holds_is_refused_and_free_when_it_is_let_go(reserved):
    with pytest.raises(SettingsError, match="another server"):
        reserve(reserved.address)
    reserved.close()
    reserve(reserved.address).close()


def test_connections_that_wind_down_are_no_hindrance(reserved):
    place = (reserved.address.host, reserved.address.port)
    with listener(reserved.address, shared=True) as one:
        client = socket.create_connection(place)
        served, _ = one.accept()
        # Who closes first is left with the connection for a minute.
        served.close()
        client.close()
    reserved.close()
    reserve(reserved.address).close()


@pytest.mark.parametrize("host", ["localhost", "0.0.0.0", "::1", "::"])
def test_hosts(host):
    if ":" in host and not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    held = reserve(Address(host, 0))
    try:
        assert held.address == Address(host, held.address.port)
        with pytest.raises(SettingsError):
            reserve(held.address)
    finally:
        held.close()


def test_a_host_that_is_not_this_machine_is_refused():
    with pytest.raises(SettingsError, match=r"192\.0\.2\.1"):
        reserve(Address("192.0.2.1", 0))
