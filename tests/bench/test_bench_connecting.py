"""Why a server can't be reached: gRPC's texts as they come, over real sockets."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from trunkline_service.bench.calls import Servers
from trunkline_service.bench.connecting import trusted, why_not
from trunkline_service.errors import InvalidArgument


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Key and certificate of this machine, of another one, and of another name."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed; a certificate can't be made")
    home = tmp_path_factory.mktemp("tls")

    def made(name, subject):
        key, certificate = home / f"{name}.key", home / f"{name}.pem"
        command = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
        ]
        more = ["-days", "1", "-keyout", key, "-out", certificate, "-subj", "/CN=x", "-addext", subject]
        subprocess.run([*command, *more], check=True, capture_output=True)
        return key, certificate

    here = "subjectAltName=IP:127.0.0.1"
    return made("here", here), made("other", here), made("named", "subjectAltName=DNS:elsewhere")


@pytest.fixture
def serve():
    servers = []

    def start(pair=None):
        server = grpc.server(ThreadPoolExecutor(1))
        if pair is None:
            port = server.add_insecure_port("127.0.0.1:0")
        else:
            key, certificate = (path.read_bytes() for path in pair)
            port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, certificate)]))
        server.start()
        servers.append(server)
        return f"127.0.0.1:{port}"

    yield start
    for server in servers:
        server.stop(None).wait()


@pytest.fixture
def answering():
    """Starts what accepts a connection, writes some bytes and hangs up."""
    listeners = []

    def start(data):
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def run():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(1)
                    connection.sendall(data)

        threading.Thread(target=run, daemon=True).start()
        return f"127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def why(address, certificates=None):
    with (
        Servers((address,), certificates).channel(address) as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        channel.unary_unary("/some.Service/Call")(b"", timeout=30)
    return why_not(caught.value.code(), caught.value.details(), certificates is not None)


def test_a_server_with_tls_asked_without(serve, pairs):
    assert "if it serves TLS, give --tls-ca" in why(serve(pairs[0]))


def test_a_server_without_tls_asked_with(serve, pairs):
    assert why(serve(), pairs[0][1]) == "it serves plain text; leave out --tls-ca"


def test_certificates_that_do_not_fit(serve, pairs):
    here, other, named = pairs
    assert "not trusted" in why(serve(here), other[1])
    assert "another name" in why(serve(named), named[1])


def test_nobody_and_something_else(answering, pairs):
    assert why("127.0.0.1:1") == why("127.0.0.1:1", pairs[0][1]) == "nobody listens there"
    page = answering(b"HTTP/1.0 400 Bad Request\r\n\r\n")
    assert why(page) == "no gRPC server answers there"


def test_a_server_that_answers_is_no_cause_for_words(serve):
    assert why(serve()) == ""


def test_time_that_ran_out_may_be_either():
    assert "it hangs" in why_not(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", tls=False)


def test_a_file_to_trust_is_read_before_anything_is_asked(tmp_path, pairs):
    key, certificate = pairs[0]
    assert trusted(certificate) == certificate.read_bytes()
    with pytest.raises(InvalidArgument, match=r"here\.key holds no certificate in PEM form"):
        Servers(("127.0.0.1:1",), key).channel("127.0.0.1:1")
    with pytest.raises(InvalidArgument, match=r"gone\.pem can't be read: No such file"):
        trusted(tmp_path / "gone.pem")
