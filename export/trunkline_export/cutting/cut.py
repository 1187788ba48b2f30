"""Where a network is cut, and what becomes of the tensors there."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from trunkline_export.backbone import Backbone
from trunkline_export.cutting.layers import find, layers_of, listening
from trunkline_export.cutting.layout import layout_of
from trunkline_export.cutting.pool import POOLS, Pool, UnitLength
from trunkline_service.errors import ExportError, InvalidArgument
from trunkline_service.models.identity import OutputSpec

NORMALIZE = ("none", "l2")
_LAST = "-1"


@dataclass(frozen=True)
class CutChoice:
    """Where to cut; each choice is another space.

    Attributes:
        layers: Names, or ``-k`` counted from the end; their vectors are concatenated. Empty for the
            penultimate feature, or, where a pool is given, for the last layer before the network's own pooling.
        pool: One of ``pool.POOLS``. None for the network's own at the penultimate feature; and for
            layers ``avg``, or ``none`` where a layer gives a vector.
        normalize: ``none`` or ``l2``.

    Raises:
        InvalidArgument: Not one of those.
    """

    layers: tuple[str, ...] = ()
    pool: str | None = None
    normalize: str = "none"

    def __post_init__(self) -> None:
        if self.pool is not None and self.pool not in POOLS:
            raise InvalidArgument(f"pool is {self.pool!r}; it must be one of {', '.join(POOLS)}")
        if self.normalize not in NORMALIZE:
            raise InvalidArgument(
                f"normalize is {self.normalize!r}; it must be one of {', '.join(NORMALIZE)}"
            )

    @property
    def penultimate(self) -> bool:
        """Whether the network's own feature is kept as it is."""
        return not self.layers and self.pool is None and self.normalize == "none"


def cut(backbone: Backbone, choice: CutChoice) -> Backbone:
    """The backbone, cut where the choice says; weights behind the cut are no part of it.

    Raises:
        ExportError: A layer that does not exist or does not run once, or a pool that does not fit it.
    """
    if choice.penultimate:
        return backbone
    if not choice.layers and choice.pool is None:
        output = dataclasses.replace(backbone.output, normalize=choice.normalize)
        return dataclasses.replace(
            backbone,
            module=nn.Sequential(backbone.module, UnitLength()).eval(),
            whole=backbone.network,
            output=output,
        )
    network = backbone.network
    example = _example(backbone)
    listed = layers_of(network, example)
    names = tuple(find(wanted, listed, network) for wanted in choice.layers or (_LAST,))
    if len(set(names)) < len(names):
        raise ExportError(f"--layer names {', '.join(names)}: each layer can be given once")
    _check_runs_once(network, names, example)
    pools = _pools(backbone, names, choice.pool, example)
    module = Cut(network, names, pools, choice.normalize).eval()
    with torch.no_grad():
        vectors = module(example)
    if len(vectors) != len(example):
        raise ExportError(
            f"{', '.join(names)} gives {len(vectors)} vectors for {len(example)} images: it works on parts of an "
            "image, such as windows; cut at the block around it"
        )
    pooled = "+".join(dict.fromkeys(pool.kind for pool in pools))
    return dataclasses.replace(
        backbone,
        module=module,
        whole=_without_rest(network, names, example),
        output=OutputSpec(node=" + ".join(names), pool=pooled, normalize=choice.normalize),
    )


class Cut(nn.Module):
    """A network that is run as far as some of its layers; their pooled outputs, one after the other.

    Args:
        network: The whole one.
        names: Of the layers.
        pools: One a layer.
        normalize: ``none`` or ``l2``.
    """

    def __init__(self, network: nn.Module, names: tuple[str, ...], pools: list[Pool], normalize: str) -> None:
        super().__init__()
        self.network = network
        self.names = names
        self.pools = nn.ModuleList(pools)
        self.last: nn.Module = UnitLength() if normalize == "l2" else nn.Identity()

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """float32 [N, 3, height, width] to float32 [N, dim]."""
        caught = run_to(self.network, self.names, pixels)
        pooled = [pool(caught[name]) for pool, name in zip(self.pools, self.names, strict=True)]
        vectors: torch.Tensor = self.last(torch.cat(pooled, dim=1))
        return vectors


class _Reached(Exception):
    """The last of the layers has run."""


def run_to(
    network: nn.Module, names: tuple[str, ...], pixels: torch.Tensor, watch: Callable[[], None] | None = None
) -> dict[str, torch.Tensor]:
    """Runs a network until all the layers have run, and gives their outputs.

    Args:
        network: In evaluation mode.
        names: Of the layers.
        pixels: The network's input.
        watch: Called when the last has run, before the rest of the network is left out.

    Raises:
        ExportError: A layer gives no tensor, or does not run.
    """
    caught: dict[str, torch.Tensor] = {}

    def catch(name: str, output: object) -> None:
        if not isinstance(output, torch.Tensor):
            raise ExportError(f"layer {name!r} gives a {type(output).__name__}, which is no tensor")
        # Cloned, since the next layer may work in place.
        caught[name] = output.clone()
        if len(caught) == len(names):
            if watch is not None:
                watch()
            # A tracer keeps a stack of modules, which an exception would leave as it is; it drops what nobody
            # reads by itself.
            if not torch.compiler.is_exporting():
                raise _Reached

    with contextlib.suppress(_Reached), listening(network, names, catch):
        network(pixels)
    if len(caught) == len(names):
        return caught
    unused = ", ".join(repr(name) for name in names if name not in caught)
    raise ExportError(f"layer {unused} does not run when the network embeds an image; name another")


def _check_runs_once(network: nn.Module, names: tuple[str, ...], example: torch.Tensor) -> None:
    runs: Counter[str] = Counter()
    with torch.no_grad(), listening(network, names, lambda name, _: runs.update([name])):
        network(example)
    for name, times in runs.items():
        if times > 1:
            raise ExportError(f"layer {name!r} runs {times} times for each image; name one that runs once")


def _pools(
    backbone: Backbone, names: tuple[str, ...], wanted: str | None, example: torch.Tensor
) -> list[Pool]:
    with torch.no_grad():
        caught = run_to(backbone.network, names, example)
    pools = []
    for name in names:
        shape = tuple(caught[name].shape[1:])
        kind = wanted or ("none" if len(shape) == 1 else "avg")
        size = backbone.preprocess.input_size
        pools.append(Pool(kind, layout_of(name, shape, size, backbone.tokens, kind)))
    return pools


def _without_rest(network: nn.Module, names: tuple[str, ...], example: torch.Tensor) -> nn.Module:
    """The same tensors without the modules behind the cut, whose weights decide nothing."""
    rest = _unreached(network, names, example)
    tensors = [*network.parameters(), *network.buffers()]
    pruned = copy.deepcopy(network, {id(tensor): tensor for tensor in tensors})
    for name in rest:
        parent, _, child = name.rpartition(".")
        setattr(pruned.get_submodule(parent), child, nn.Identity())
    with torch.no_grad():
        wanted = run_to(network, names, example)
        try:
            left = run_to(pruned, names, example)
        except (AttributeError, TypeError, RuntimeError):
            # Somebody reads a module's weights without running it. Then nothing is taken away.
            return network
    same = all(torch.allclose(wanted[name], left[name], rtol=1e-4, equal_nan=True) for name in names)
    return pruned if same else network


def _unreached(network: nn.Module, names: tuple[str, ...], example: torch.Tensor) -> list[str]:
    """The outermost modules that have not begun to run when the last layer is done."""
    begun: set[str] = set()
    done: set[str] = set()
    handles = []
    for name, module in network.named_modules():
        handles.append(module.register_forward_pre_hook(lambda *_, name=name: begun.add(name)))
        handles.append(module.register_forward_hook(lambda *_, name=name: done.add(name)))
    at_cut: list[tuple[set[str], set[str]]] = []
    try:
        with torch.no_grad():
            run_to(network, names, example, watch=lambda: at_cut.append((set(begun), set(done))))
    finally:
        for handle in handles:
            handle.remove()
    (begun, done) = at_cut[0]
    done.update(names)
    kept = {ancestor for name in begun for ancestor in _ancestors(name)} | begun
    rest = [
        name
        for name, _ in network.named_modules()
        if name and name not in kept and not done.intersection(_ancestors(name))
    ]
    return [name for name in rest if not set(rest).intersection(_ancestors(name))]


def _ancestors(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def _example(backbone: Backbone) -> torch.Tensor:
    """Two different images, the same every time; float32 [2, 3, height, width]."""
    height, width = backbone.preprocess.input_size
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, height, width, generator=generator)
