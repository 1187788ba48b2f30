"""``trunkline health``: the status, and why in a few words."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import click.testing
import grpc
import pytest

from trunkline_service.cli.app import trunkline_command
from trunkline_service.server.health import Health


@pytest.fixture
def serve():
    servers = []

    def start(*handlers):
        server = grpc.server(ThreadPoolExecutor(1))
        for health in handlers:
            health.register(server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        servers.append((server, handlers))
        return f"127.0.0.1:{port}"

    yield start
    for server, handlers in servers:
        server.stop(None).wait()
        for health in handlers:
            health.close()


def health(*words):
    return click.testing.CliRunner().invoke(trunkline_command, ["health", *words], standalone_mode=False)


def test_a_server_that_serves_needs_no_words(serve):
    made = Health(["one"])
    address = serve(made)
    starting = health("--server", address)
    assert isinstance(starting.exception, SystemExit)
    assert starting.output.startswith(f"{address}: NOT_SERVING (it is starting or draining")
    made.set({"": True, "one": True})
    done = health("--server", address, "--service", "one")
    assert done.exception is None
    assert done.output == f"{address}: SERVING\n"
    assert health(address).output == f"{address}: SERVING\n"
    assert (
        f"{address}: NOT_FOUND (it has no service 'two')"
        in health("--server", address, "--service", "two").output
    )


def test_what_does_not_answer_is_told_apart(serve, tmp_path):
    assert health("--server", "127.0.0.1:1").output == "127.0.0.1:1: UNAVAILABLE (nobody listens there)\n"
    address = serve()
    assert health("--server", address).output == f"{address}: UNIMPLEMENTED (it serves no grpc.health.v1)\n"
    (tmp_path / "ca.pem").write_text("none")
    found = health("--server", address, "--tls-ca", str(tmp_path / "ca.pem"))
    assert "holds no certificate" in str(found.exception)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "give the server's address, as HOST:PORT or with --server HOST:PORT; neither was given"),
        (("a:1", "--server", "b:2"), "a:1 and --server b:2 were given"),
        (("localhost",), "it needs a port, e.g. 'localhost:50051'"),
        (("--server", "localhost"), "it needs a port"),
        (("https://localhost:1",), "leave the scheme out"),
    ],
)
def test_an_address_is_given_once_with_its_port(words, said):
    done = click.testing.CliRunner().invoke(trunkline_command, ["health", *words])
    assert done.exit_code == 2
    assert said in done.stderr
