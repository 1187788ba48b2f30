"""The folder of the sockets: for one user, and gone with its server, however that ends."""

from __future__ import annotations

import subprocess
import sys

import pytest

from trunkline_service.errors import SettingsError
from trunkline_service.server.processes.folder import PrivateFolder

MADE = "from pathlib import Path\nfrom trunkline_service.server.processes.folder import PrivateFolder\n"


@pytest.fixture
def root(tmp_path_factory):
    """A folder with a short path, as sockets need it."""
    return tmp_path_factory.mktemp("f")


def test_nobody_else_can_enter_and_it_goes_with_what_is_in_it(root):
    folder = PrivateFolder(root)
    assert folder.path.stat().st_mode & 0o777 == 0o700
    (folder.path / "data").touch()
    folder.remove()
    assert list(root.iterdir()) == []


def test_what_a_killed_server_left_is_swept_by_the_next_and_what_lives_is_left_alone(root):
    alive = PrivateFolder(root)
    killed = f"{MADE}import os\nPrivateFolder(Path({str(root)!r}))\nos.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", killed], check=False)
    assert len(list(root.iterdir())) == 2
    later = PrivateFolder(root)
    assert set(root.iterdir()) == {alive.path, later.path}
    alive.remove()
    later.remove()


def test_a_path_that_no_socket_can_have_is_refused(root):
    deep = root / ("d" * 90)
    deep.mkdir()
    with pytest.raises(SettingsError, match="TMPDIR"):
        PrivateFolder(deep)
    assert list(deep.iterdir()) == []
    with pytest.raises(SettingsError, match="TMPDIR"):
        PrivateFolder(root / "absent")
