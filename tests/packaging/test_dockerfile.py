"""The Dockerfile's build steps as plain commands: no engine is needed to know that they work."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

STAGES = ("build", "base", "install-cpu")


def steps(text: str) -> dict[str, list[str]]:
    """RUN lines by stage."""
    found: dict[str, list[str]] = {}
    stage = ""
    for line in text.replace("\\\n", " ").splitlines():
        if named := re.match(r"FROM \S+ AS (\S+)", line):
            stage = named.group(1)
            found[stage] = []
        elif line.startswith("RUN "):
            found[stage].append(line.removeprefix("RUN "))
    return found


def test_the_image_is_not_root_and_asks_for_health(repository):
    text = (repository / "Dockerfile").read_text()
    assert re.search(r"^USER 10001$", text, re.MULTILINE)
    assert re.search(r"^HEALTHCHECK .*\"trunkline\", \"health\"", text, re.MULTILINE)
    assert set(STAGES) | {"install-cuda", "runtime", "cuda", "cpu"} == set(steps(text))


@pytest.mark.slow
def test_the_steps_of_the_cpu_image_run(repository, tmp_path):
    (tmp_path / "wheels").mkdir()
    source = tmp_path / "src"
    ignored = set((repository / ".dockerignore").read_text().split())
    # As Docker reads it: these patterns mean the top folder alone.
    shutil.copytree(repository, source, ignore=lambda folder, _: ignored if folder == str(repository) else ())
    # As COPY does between the stages.
    shutil.copy(repository / "constraints.txt", tmp_path / "wheels")
    found = steps((repository / "Dockerfile").read_text())
    for stage in STAGES:
        for step in found[stage]:
            here = step.replace("--no-cache-dir", "")
            for folder in ("/src", "/wheels", "/opt/trunkline"):
                here = here.replace(folder, str(tmp_path / folder.rpartition("/")[2]))
            done = subprocess.run(["bash", "-euc", here], capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{step}\n{done.stderr}"
    image = tmp_path / "trunkline" / "bin"
    listed = subprocess.run(
        [image / "python", "-m", "pip", "list"], capture_output=True, text=True, check=True
    ).stdout
    assert re.search(r"^onnxruntime\s", listed, re.MULTILINE)
    assert "onnxruntime-gpu" not in listed
    assert "torch" not in listed.split()
    shown = subprocess.run(
        [image / "trunkline", "models", "list", "--json"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert '"trunkline-small"' in shown.stdout
