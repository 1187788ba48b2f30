"""Repositories: the one that tests fill, and one somewhere else that they pull from."""

from __future__ import annotations

import functools
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.models.sites import Site, running

from trunkline_service.models.pull import pull
from trunkline_service.models.repository import ModelRepository
from trunkline_service.models.web import Access


@pytest.fixture
def remote(tmp_path: Path, publish_tiny: Callable[..., Any]) -> Path:
    """A repository somewhere else, with tiny@1 and tiny@2."""
    for _ in range(2):
        publish_tiny(tmp_path / "remote")
    return tmp_path / "remote"


@pytest.fixture
def site(remote: Path, pem: tuple[Path, Path]) -> Iterator[Site]:
    """That repository behind https."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certfile=pem[1], keyfile=pem[0])
    yield from running(Site(remote, tls))


@pytest.fixture
def plain_site(remote: Path) -> Iterator[Site]:
    """The same without TLS."""
    yield from running(Site(remote))


@pytest.fixture
def repository(tmp_path: Path) -> ModelRepository:
    return ModelRepository(tmp_path / "models", tmp_path / "none")


@pytest.fixture
def access(pem: tuple[Path, Path]) -> Access:
    return Access(trust=pem[1], stalled_s=10)


@pytest.fixture
def fetch(repository: ModelRepository, access: Access) -> Callable[..., Any]:
    return functools.partial(pull, repository=repository, access=access)


@pytest.fixture
def root(tmp_path):
    return tmp_path / "models"
