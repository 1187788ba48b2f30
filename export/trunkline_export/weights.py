"""Weights: chosen, read from a file, fetched, and loaded strictly into a network.

Nothing is ever unpickled into code: safetensors, or PyTorch's ``weights_only`` reader (contract 8).
"""

from __future__ import annotations

import contextlib
import pickle
import socket
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from trunkline_service.errors import ExportError, InvalidArgument, WeightsError
from trunkline_service.models.identity import file_sha256

SEED = 0
_NESTINGS = ("state_dict", "model")
_SHOWN = 8
_STALLED_AFTER_S = 30.0
_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"


_INSTEAD = "give --weights FILE with a .safetensors or .pth file that you have, or --no-pretrained for random weights"


@dataclass(frozen=True)
class WeightsChoice:
    """Where weights come from: a file; or else the library's own; or else a random generator.

    Attributes:
        file: A .safetensors, .pth or .pt file, or None.
        pretrained: False for random weights.
    """

    file: Path | None = None
    pretrained: bool = True

    def __post_init__(self) -> None:
        if self.file is not None and not self.pretrained:
            raise InvalidArgument("--weights FILE and --no-pretrained exclude each other; give one of them")

    def words(self, downloaded: str) -> str:
        """Where the weights came from, for the card: never a path of this machine.

        Raises:
            OSError: The file can't be read.
        """
        if self.file is not None:
            return f"{self.file.name} (sha256 {file_sha256(self.file)[:12]})"
        return downloaded if self.pretrained else f"random, seed {SEED}"


@contextlib.contextmanager
def seeded() -> Iterator[None]:
    """Random initialisation that is the same every time, and leaves the caller's generator alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        yield


@contextlib.contextmanager
def downloading(what: str, wanted: str = "the weights", instead: str = _INSTEAD) -> Iterator[None]:
    """Turns whatever a library's download raises into one error that says what to do instead.

    Args:
        what: The backbone.
        wanted: What of it is downloaded.
        instead: What to do where that fails.

    Raises:
        WeightsError: The block raised, or a connection stalled.
    """
    # PyTorch's hub opens its URLs without a timeout of their own, and would wait for ever.
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_STALLED_AFTER_S)
    try:
        yield
    except ExportError:
        raise
    except RuntimeError as exc:
        if "state_dict" not in str(exc):
            raise WeightsError(f"{wanted} of {what} can't be loaded ({_first_line(exc)}); {instead}") from exc
        missing = " ".join(line.strip() for line in str(exc).splitlines()[1:3])
        raise WeightsError(
            f"what was downloaded as {wanted} of {what} does not fit the network: {missing[:400]}; {instead}"
        ) from exc
    except Exception as exc:  # HTTP clients and hubs share no base class
        raise WeightsError(
            f"{wanted} of {what} could not be downloaded ({_first_line(exc)}); {instead}"
        ) from exc
    finally:
        socket.setdefaulttimeout(before)


def read(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a weights file by name.

    Common nestings (``state_dict``, ``model``) and a ``module.`` before every name are taken off.

    Raises:
        WeightsError: No such file, another kind of file, code inside a pickle, or no tensors.
    """
    if not path.is_file():
        raise WeightsError(f"--weights: there is no file {path}")
    match path.suffix.lower():
        case ".safetensors":
            found: object = _read_safetensors(path)
        case ".pth" | ".pt":
            found = _read_pytorch(path)
        case other:
            raise WeightsError(
                f"--weights {path.name}: files ending in {other!r} can't be read; "
                "give .safetensors, .pth or .pt"
            )
    return _plain(found, path.name)


def load_into(
    module: torch.nn.Module,
    tensors: Mapping[str, torch.Tensor],
    *,
    architecture: str,
    file: str,
    classifier: Collection[str],
) -> None:
    """Loads tensors by name, strictly but for the classifier, which the network was cut before.

    Args:
        module: The network without its classifier.
        tensors: From ``read``. Floats of other widths are cast to the network's.
        architecture: For error messages.
        file: Its name, for error messages.
        classifier: Names of the classifier's modules, whose tensors may be there or not.

    Raises:
        WeightsError: Tensors are missing, left over, of another shape or kind, or not finite; names them.
    """
    wanted = module.state_dict()
    prefixes = tuple(f"{name}." for name in classifier)
    offered = {
        name: tensor for name, tensor in tensors.items() if name in wanted or not name.startswith(prefixes)
    }
    problems = [
        # A counter of training steps, which checkpoints of old PyTorch lack and inference never reads.
        _some("missing", [n for n in wanted if n not in offered and not n.endswith("num_batches_tracked")]),
        _some("not part of it", [n for n in offered if n not in wanted]),
        _some("of another shape", [_shapes(n, offered[n], wanted[n]) for n in _differing(offered, wanted)]),
        _some(
            "not floating-point",
            [n for n in offered if n in wanted and _is_other_kind(offered[n], wanted[n])],
        ),
        _some("not finite", [n for n in offered if n in wanted and not torch.isfinite(offered[n]).all()]),
    ]
    if any(problems):
        raise WeightsError(
            f"{file} does not hold the weights of {architecture} ({len(wanted)} tensors, among them "
            f"{', '.join(list(wanted)[:2])}): "
            + "; ".join(filter(None, problems))
            + ". Is it another network's file?"
        )
    module.load_state_dict({**wanted, **{n: t.to(wanted[n].dtype) for n, t in offered.items()}})


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as exc:
        raise WeightsError(
            f"--weights {path.name} is no readable safetensors file: {_first_line(exc)}"
        ) from exc


def _read_pytorch(path: Path) -> object:
    try:
        with path.open("rb") as handle:
            head = handle.read(4)
    except OSError as exc:
        raise WeightsError(f"--weights {path.name} can't be read: {_first_line(exc)}") from exc
    if not head.startswith((_ZIP, _PICKLE)):
        raise WeightsError(f"--weights {path.name} is no PyTorch checkpoint; was it saved with torch.save?")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as exc:
        raise WeightsError(
            f"--weights {path.name} holds pickled Python objects beside tensors, and loading those could run "
            "code; where you trust it, load it yourself and save its state_dict() as safetensors "
            "(safetensors.torch.save_file), then give that file"
        ) from exc
    except Exception as exc:  # a damaged pickle can make its reader raise anything
        raise WeightsError(f"--weights {path.name} can't be read: {_first_line(exc)}") from exc


def _plain(found: object, file: str) -> dict[str, torch.Tensor]:
    while isinstance(found, Mapping):
        nested = next((found[key] for key in _NESTINGS if isinstance(found.get(key), Mapping)), None)
        if nested is None:
            break
        found = nested
    if not isinstance(found, Mapping) or not found:
        raise WeightsError(f"--weights {file} holds no tensors by name; save the network's state_dict()")
    strangers = [str(name) for name, value in found.items() if not isinstance(value, torch.Tensor)]
    if strangers:
        raise WeightsError(
            f"--weights {file} holds more than tensors ({', '.join(strangers[:_SHOWN])}); "
            "save the network's state_dict() alone"
        )
    tensors = {str(name): value for name, value in found.items()}
    # Left by torch.nn.DataParallel.
    if all(name.startswith("module.") for name in tensors):
        return {name.removeprefix("module."): value for name, value in tensors.items()}
    return tensors


def _differing(offered: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]) -> list[str]:
    return [name for name in offered if name in wanted and offered[name].shape != wanted[name].shape]


def _shapes(name: str, offered: torch.Tensor, wanted: torch.Tensor) -> str:
    return f"{name} {list(offered.shape)} instead of {list(wanted.shape)}"


def _is_other_kind(offered: torch.Tensor, wanted: torch.Tensor) -> bool:
    return wanted.is_floating_point() and not offered.is_floating_point()


def _some(what: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{what}: {', '.join(names[:_SHOWN])}{more}"


def _first_line(exc: BaseException) -> str:
    lines = str(exc).strip().splitlines()
    return f"{type(exc).__name__}: {lines[0]}" if lines else type(exc).__name__
