"""Weights files: what is read, what is refused, and what the refusal says."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from trunkline_service.errors import InvalidArgument, WeightsError

torch = pytest.importorskip("torch", reason="needs the export extra")
safetensors = pytest.importorskip("safetensors.torch", reason="needs the export extra")

from trunkline_export import weights  # noqa: E402
from trunkline_export.weights import WeightsChoice  # noqa: E402


def _network() -> Any:
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))


def _tensors() -> dict[str, Any]:
    with weights.seeded():
        return {name: tensor.clone() for name, tensor in _network().state_dict().items()}


def _load(tensors: dict[str, Any]) -> Any:
    network = _network()
    weights.load_into(network, tensors, architecture="tests/net", file="net.pth", classifier=["head"])
    return network


def test_safetensors_and_pytorch_files_hold_the_same(tmp_path: Path) -> None:
    safetensors.save_file(_tensors(), tmp_path / "net.safetensors")
    torch.save(_tensors(), tmp_path / "net.pth")
    one, other = (weights.read(tmp_path / name) for name in ("net.safetensors", "net.pth"))
    assert one.keys() == other.keys() == _tensors().keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda t: {"state_dict": t, "epoch": 3},
        lambda t: {"model": t},
        lambda t: {"model": {"state_dict": t}},
        lambda t: {f"module.{name}": tensor for name, tensor in t.items()},
        lambda t: {"state_dict": {f"module.{name}": tensor for name, tensor in t.items()}},
    ],
)
def test_common_wrappings_are_taken_off(wrap: Any, tmp_path: Path) -> None:
    torch.save(wrap(_tensors()), tmp_path / "net.pt")
    assert weights.read(tmp_path / "net.pt").keys() == _tensors().keys()


def test_half_precision_is_widened() -> None:
    halved = {n: t.half() if t.is_floating_point() else t for n, t in _tensors().items()}
    loaded = _load(halved).state_dict()
    assert loaded["0.weight"].dtype == torch.float32
    assert torch.equal(loaded["0.weight"], halved["0.weight"].float())


def test_the_classifier_may_be_there_or_not() -> None:
    extra = {"head.weight": torch.zeros(7, 4), "head.bias": torch.zeros(7)}
    assert torch.equal(_load(_tensors() | extra)[0].weight, _load(_tensors())[0].weight)


def test_counters_of_training_steps_may_lack() -> None:
    tensors = _tensors()
    del tensors["1.num_batches_tracked"]
    assert torch.equal(_load(tensors)[0].weight, tensors["0.weight"])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.pop("0.bias"), "missing: 0.bias"),
        (lambda t: t.update({"2.weight": torch.zeros(1)}), "not part of it: 2.weight"),
        (lambda t: t.update({"head_2": torch.zeros(1)}), "not part of it: head_2"),
        (lambda t: t.update({"0.bias": torch.zeros(5)}), r"of another shape: 0.bias \[5\] instead of \[4\]"),
        (lambda t: t.update({"0.bias": torch.zeros(4, dtype=torch.int8)}), "not floating-point: 0.bias"),
        (lambda t: t["0.bias"].fill_(float("nan")), "not finite: 0.bias"),
    ],
)
def test_what_does_not_fit_is_named(change: Any, says: str) -> None:
    tensors = _tensors()
    change(tensors)
    with pytest.raises(WeightsError, match=rf"net.pth does not hold the weights of tests/net .*{says}"):
        _load(tensors)


def test_at_most_eight_tensors_are_named() -> None:
    strangers = {f"other.{number}": torch.zeros(1) for number in range(20)}
    with pytest.raises(WeightsError, match=r"other\.7 and 12 more"):
        _load(_tensors() | strangers)


class _Opens:
    """Unpickled by a careless reader, this would make a folder."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self._path),)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    torch.save({"state_dict": _tensors(), "args": _Opens(tmp_path / "made")}, tmp_path / "net.pth")
    with pytest.raises(WeightsError, match=r"could run code.*safetensors"):
        weights.read(tmp_path / "net.pth")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("name", ["net.pth", "net.pt", "net.safetensors"])
@pytest.mark.parametrize("content", [b"", b"just some text\n", b"PK\x03\x04broken", b"\x80\x02broken"])
def test_other_files_are_refused(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=name):
        weights.read(tmp_path / name)


def test_a_truncated_checkpoint_is_refused(tmp_path: Path) -> None:
    torch.save(_tensors(), tmp_path / "net.pth")
    whole = (tmp_path / "net.pth").read_bytes()
    (tmp_path / "net.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match=r"net\.pth can't be read"):
        weights.read(tmp_path / "net.pth")


@pytest.mark.parametrize("content", [{}, torch.zeros(3), [1], {"lr": 0.1, "0.weight": torch.zeros(1)}])
def test_a_file_without_named_tensors_is_refused(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "net.pth")
    with pytest.raises(WeightsError, match=r"net.pth holds (no tensors by name|more than tensors \(lr\))"):
        weights.read(tmp_path / "net.pth")


def test_an_absent_file_and_another_ending_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"there is no file .*absent\.pth"):
        weights.read(tmp_path / "absent.pth")
    (tmp_path / "net.h5").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"ending in '.h5' can't be read"):
        weights.read(tmp_path / "net.h5")


def test_a_file_and_random_weights_exclude_each_other() -> None:
    with pytest.raises(InvalidArgument, match="exclude each other"):
        WeightsChoice(Path("net.pth"), pretrained=False)


def test_words_for_the_card_name_no_folder(tmp_path: Path) -> None:
    (tmp_path / "net.pth").write_bytes(b"x")
    assert WeightsChoice(tmp_path / "net.pth").words("hub") == "net.pth (sha256 2d711642b726)"
    assert WeightsChoice(None).words("hub") == "hub"
    assert WeightsChoice(None, pretrained=False).words("hub") == "random, seed 0"


def test_seeding_leaves_the_callers_generator_alone() -> None:
    torch.manual_seed(7)
    wanted = torch.rand(1)
    torch.manual_seed(7)
    with weights.seeded():
        inside = torch.rand(1)
    assert torch.equal(torch.rand(1), wanted)
    with weights.seeded():
        assert torch.equal(torch.rand(1), inside)
