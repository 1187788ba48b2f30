"""`trunkline export` in processes of its own: whole or not at all, whatever happens to it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trunkline_service.models.repository import ModelRepository

pytest.importorskip("torch", reason="needs the export extra")

CLI = (sys.executable, "-m", "trunkline_service.cli.entry")
TINY = ("export", "timm:test_resnet", "--no-pretrained")


def _published(root: Path) -> list[str]:
    cards, problems = ModelRepository(root, bundled=root / "none").cards()
    assert problems == []
    return [card.reference for card in cards]


@pytest.mark.slow
def test_an_export_killed_midway_leaves_nothing_and_the_next_one_works(tmp_path: Path, cli: Any) -> None:
    with subprocess.Popen([*CLI, *TINY], cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = ""
        while "running batches" not in said:
            said = process.stderr.readline()
            assert said, "it ended before it could be killed"
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "models").exists() or _published(tmp_path / "models") == []
    assert cli(*TINY, cwd=tmp_path).returncode == 0
    assert _published(tmp_path / "models") == ["test_resnet@1"]


@pytest.mark.slow
def test_two_exports_of_one_name_at_once_give_two_versions(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen([*CLI, *TINY, "--json"], cwd=tmp_path, stdout=subprocess.PIPE) for _ in range(2)
    ]
    cards = [json.loads(process.communicate()[0]) for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sorted(card["version"] for card in cards) == [1, 2]
    assert len({card["space_id"] for card in cards}) == 1
    assert _published(tmp_path / "models") == ["test_resnet@1", "test_resnet@2"]


@pytest.mark.slow
def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    """A limit on the size of files stands for a disk without room: writing fails midway."""
    # Set by the child itself: this process has threads, and must not fork.
    limited = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000)); "
        "import sys; from trunkline_service.cli.entry import main; sys.exit(main())"
    )
    command = [sys.executable, "-c", limited, *TINY]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1
    assert "can't write the export's working files" in done.stderr
    assert "nothing was published" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "models").exists() or _published(tmp_path / "models") == []


@pytest.mark.slow
def test_labels_five_minutes_after_installation(tmp_path: Path, cli: Any, png: Any) -> None:
    """The classifier that a network came with labels pictures without anything being fitted."""
    import numpy as np

    done = cli(*TINY, "--keep-classifier", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "next: trunkline predict IMAGE --head test_resnet-classifier" in done.stdout
    (tmp_path / "a.png").write_bytes(png(np.full((64, 64, 3), 200, np.uint8)))
    said = cli("predict", "a.png", "--head", "test_resnet-classifier", "--json", cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    (answer,) = json.loads(said.stdout)
    assert answer["head"] == "test_resnet-classifier@1"
    assert len(answer["probabilities"]) == 1000
    listed = cli("heads", "list", cwd=tmp_path)
    assert "pretrained" in listed.stdout
    shown = cli("heads", "show", "test_resnet-classifier", cwd=tmp_path)
    assert "the network's own last layer" in shown.stdout
    assert "and 980 more" in shown.stdout


@pytest.mark.slow
def test_a_layer_and_a_pool_are_another_model_of_another_space(tmp_path: Path, cli: Any) -> None:
    plain = json.loads(cli(*TINY, "--json", cwd=tmp_path).stdout)
    done = cli(
        *TINY,
        "--layer",
        "-2",
        "--layer",
        "layer2",
        "--pool",
        "gem",
        "--normalize",
        "l2",
        "--json",
        cwd=tmp_path,
    )
    card = json.loads(done.stdout)
    assert card["name"] == "test_resnet-layer-2-layer2-gem-l2"
    assert card["output"] == {"node": "layer3.0 + layer2", "pool": "gem", "normalize": "l2"}
    assert card["space_id"] != plain["space_id"]


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        ((), 2, "give a SOURCE, or --list"),
        (("timm:test_resnet", "--list", "x"), 2, "give a SOURCE, or --list"),
        (("timm:test_resnt", "--no-pretrained"), 1, "did you mean 'test_resnet'"),
        (
            ("timm:test_resnet", "--no-pretrained", "--layer", "layr1"),
            1,
            "Layers, in the order in which they run: conv1",
        ),
        (("timm:test_resnet", "--no-pretrained", "--size", "big"), 1, "size is 'big'"),
        (
            ("timm:test_resnet", "--keep-classifier", "--pool", "avg"),
            1,
            "--keep-classifier needs the feature",
        ),
        (("timm:test_resnet", "--calibrate", "."), 1, "--calibrate is for --precision"),
        (("timm:test_resnet", "--output", "x"), 1, "are for onnx:PATH alone"),
        (("onnx:x.onnx", "--size", "64"), 1, "--size can't be used with onnx:PATH"),
        (("onnx:x.onnx",), 1, "there is no such file"),
    ],
)
def test_what_cannot_be_exported_says_why(
    arguments: tuple[str, ...], status: int, says: str, tmp_path: Path, cli: Any
) -> None:
    done = cli("export", *arguments, cwd=tmp_path)
    assert done.returncode == status
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "models").exists()


def test_the_list_of_sources(tmp_path: Path, cli: Any) -> None:
    text = cli("export", "--list", "deit_tiny_patch16", cwd=tmp_path).stdout
    assert "timm:deit_tiny_patch16_224.fb_in1k" in text
    assert "5.5 M" in text
    assert "apache-2.0" in text
    entries = json.loads(cli("export", "--list", "torchvision:resnet18*", "--json", cwd=tmp_path).stdout)
    assert [entry["source"] for entry in entries] == ["torchvision:resnet18@IMAGENET1K_V1"]
