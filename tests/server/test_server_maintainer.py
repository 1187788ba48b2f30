"""The server's upkeep of indexes: it runs whether or not it may build, and is called off before the drain."""

from __future__ import annotations

import pytest

from trunkline_service.server.app import Server
from trunkline_service.settings import IndexSettings, Settings


@pytest.fixture
def serve(tmp_path, publish_tiny):
    """``serve("never")`` is a server that is stopped in the end."""
    publish_tiny(tmp_path / "models")
    started = []

    def call(build):
        server = Server(
            Settings(
                models=str(tmp_path / "models"),
                data=str(tmp_path / "data"),
                default_model="tiny",
                listen="127.0.0.1:0",
                threads=1,
                drain_s=10,
                index=IndexSettings(build=build),
            )
        )
        started.append(server)
        server.start()
        return server

    yield call
    for server in started:
        server.stop()


@pytest.mark.parametrize("build", ["auto", "never"])
def test_it_runs_and_builds_only_where_it_may(serve, build):
    server = serve(build)
    assert server._maintainer._thread.is_alive()
    assert server._maintainer._build is (build == "auto")
    server.stop()
    assert not server._maintainer._thread.is_alive()


def test_what_is_under_way_is_called_off_before_the_calls_are_waited_for(serve, monkeypatch):
    server = serve("auto")
    order = []
    monkeypatch.setattr(server._maintainer, "ask_to_stop", lambda: order.append("asked"))
    monkeypatch.setattr(server._maintainer, "stop", lambda: order.append("joined"))
    monkeypatch.setattr(server._gate, "wait_empty", lambda seconds: order.append("drained"))
    with monkeypatch.context():
        server.stop()
    assert order == ["asked", "drained", "joined"]
    monkeypatch.undo()
    server._maintainer.stop()
