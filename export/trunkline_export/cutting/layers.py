"""The layers of a network, by name, in the order in which they run."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import nn

from trunkline_service.errors import ExportError
from trunkline_service.names import near

_CONTAINERS = (nn.Sequential, nn.ModuleList)
# They do nothing in evaluation.
_IDLE = ("Identity", "Dropout", "Dropout2d", "DropPath", "PatchDropout")
# What stages of transformers and of newer convolutional networks call their blocks.
_STAGE_PARTS = ("blocks", "layers")
_SHOWN = 60


@dataclass(frozen=True)
class Layer:
    """One place where a network can be cut.

    Attributes:
        name: Of the module, e.g. ``layer3.0`` or ``blocks.8``.
        shape: Of its output, without the batch.
    """

    name: str
    shape: tuple[int, ...]

    @property
    def spatial(self) -> bool:
        """Whether it is a map or a sequence of tokens, rather than one vector an image."""
        return len(self.shape) > 1 and math.prod(self.shape) > max(self.shape)

    def __str__(self) -> str:
        return f"{self.name} [{', '.join(map(str, self.shape))}]"


def layers_of(network: nn.Module, example: torch.Tensor) -> list[Layer]:
    """The network's blocks in the order in which they run; what lies inside a block can be named too.

    Args:
        network: In evaluation mode.
        example: What it takes, float32 [N, 3, height, width].
    """
    names = list(_blocks("", network))
    found: dict[str, Layer] = {}

    def note(name: str, output: object) -> None:
        if isinstance(output, torch.Tensor):
            found.setdefault(name, Layer(name, tuple(output.shape[1:])))

    with torch.no_grad(), listening(network, names, note):
        network(example)
    return list(found.values())


@contextlib.contextmanager
def listening(
    network: nn.Module, names: Iterable[str], heard: Callable[[str, object], None]
) -> Iterator[None]:
    """Tells what some modules give, by name, each time one of them has run within the block."""

    def tell(name: str) -> Callable[[nn.Module, object, object], None]:
        return lambda _module, _inputs, output: heard(name, output)

    handles = [network.get_submodule(name).register_forward_hook(tell(name)) for name in names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def find(wanted: str, layers: list[Layer], network: nn.Module) -> str:
    """The name of the module that ``wanted`` means.

    Args:
        wanted: A module's name; or ``-k``, the k-th from the end of the layers before the network's own
            pooling, which give a map or a sequence of tokens.
        layers: From ``layers_of``.
        network: Holds the modules.

    Raises:
        ExportError: No such layer; lists those that there are.
    """
    if wanted.startswith("-") and wanted[1:].isdigit():
        inner = [layer.name for layer in layers if layer.spatial]
        if not 1 <= int(wanted[1:]) <= len(inner):
            raise ExportError(
                f"there is no layer {wanted}: {len(inner)} layers give a map or tokens. {_listed(layers)}"
            )
        return inner[int(wanted)]
    names = {name for name, _ in network.named_modules() if name}
    if wanted not in names:
        raise ExportError(f"there is no layer {wanted!r}{near(wanted, names)}. {_listed(layers)}")
    return wanted


def _listed(layers: list[Layer]) -> str:
    counted = [layer.name for layer in layers if layer.spatial]
    places = {name: f" = {number - len(counted)}" for number, name in enumerate(counted)}
    more = f"; and {len(layers) - _SHOWN} more before them" if len(layers) > _SHOWN else ""
    shown = ", ".join(f"{layer}{places.get(layer.name, '')}" for layer in layers[-_SHOWN:])
    return f"Layers, in the order in which they run: {shown}{more}"


def _blocks(prefix: str, module: nn.Module) -> Iterator[str]:
    """Modules outside of which only containers lie: blocks, and the single layers between them."""
    for name, child in module.named_children():
        path = f"{prefix}{name}"
        if isinstance(child, _CONTAINERS) or _holds_blocks(child):
            yield from _blocks(f"{path}.", child)
        elif type(child).__name__ not in _IDLE:
            yield path


def _holds_blocks(module: nn.Module) -> bool:
    """Whether a module is a stage. By name, since the branches of an inception block are containers too."""
    return any(
        name in _STAGE_PARTS and isinstance(part, _CONTAINERS) for name, part in module.named_children()
    )
