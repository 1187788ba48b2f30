"""TLS, with certificates made for the test."""

from __future__ import annotations

import asyncio

import grpc
import numpy as np
import pytest

import trunkline


def test_a_client_that_trusts_the_certificate_is_served(serve, call, expected, pem):
    key, certificate = pem
    fake = serve(grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())]))
    tls = trunkline.TLS(root_certificates=certificate, server_name="trunkline.test")
    result = call(fake, "embed", b"a", client={"tls": tls})
    np.testing.assert_array_equal(result.vectors[0], expected(b"a"))


def test_mutual_tls_takes_the_clients_certificate(serve, call, pem):
    key, certificate = pem
    pair = (key.read_bytes(), certificate.read_bytes())
    fake = serve(grpc.ssl_server_credentials([pair], pair[1], require_client_auth=True))
    root = {"root_certificates": pair[1], "server_name": "trunkline.test"}
    with pytest.raises(trunkline.ConnectionFailed):
        call(fake, "models", client={"tls": trunkline.TLS(**root)})
    tls = trunkline.TLS(**root, private_key=key, certificate_chain=certificate)
    assert len(call(fake, "models", client={"tls": tls})) == 1


def test_a_client_without_tls_learns_what_to_look_at(serve, pem):
    key, certificate = pem
    fake = serve(grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())]))
    with (
        trunkline.Client(fake.target, retries=0) as client,
        pytest.raises(trunkline.ConnectionFailed, match="TLS"),
    ):
        client.models()


def test_a_certificate_that_is_not_there_is_an_error_of_the_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        trunkline.Client("localhost:1", tls=trunkline.TLS(root_certificates=tmp_path / "none.pem"))


def test_a_private_key_is_never_shown():
    assert "secret" not in repr(trunkline.TLS(private_key=b"secret"))


def test_the_default_roots_need_no_more_than_true():
    trunkline.Client("localhost:1", tls=True).close()
    asyncio.run(trunkline.AsyncClient("localhost:1", tls=True).close())
