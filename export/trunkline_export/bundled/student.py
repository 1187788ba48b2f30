"""The student network: 128 x 128 photographs to 192-d embeddings, small enough to ship in a wheel.

Shaped by what is fast on CPUs, in training as in serving. On large maps, dense 3 x 3 convolutions in
residual pairs (ResNet, He et al., 2016): with few channels the multiplications are cheap and what
costs is every further pass over the map, so the stem quarters the image at once and nothing widens
the map after it. On small maps, inverted residuals (MobileNetV2, Sandler et al., 2018) gated by
squeeze-and-excitation (Hu et al., 2018), which spend parameters sparingly. Only dense convolutions
stride: the gradient of a strided depthwise one is slow. ReLU, because it fuses into the convolution
before it and quantises well.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

ARCHITECTURE = "trunkline_small"
INPUT_SIZE = 128
"""Side in pixels: shorter side resized to it (bicubic, antialiased), then centre-cropped."""
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""ImageNet's channel statistics, RGB, for pixels in [0, 1]; the teacher's as well."""
EMBEDDING_DIM = 192
MAP_SIZE = 4
"""Side of the last feature map: `INPUT_SIZE` / 32."""


@dataclass(frozen=True)
class Stage:
    """Halve the map (the first stage: quarter it) with one strided convolution, then `depth` blocks.

    Attributes
    ----------
    width : channels.
    depth : blocks.
    expansion : hidden channels of a block over `width`; 0 picks dense pairs instead.
    kernel : side of the strided convolution's kernel.
    """

    width: int
    depth: int
    expansion: int
    kernel: int


STAGES = (
    Stage(width=48, depth=1, expansion=0, kernel=7),
    Stage(width=80, depth=2, expansion=0, kernel=3),
    Stage(width=128, depth=5, expansion=3, kernel=2),
    Stage(width=224, depth=2, expansion=3, kernel=2),
)
FEATURES = 512
"""Channels of the last feature map, which the embedding is projected from."""
SQUEEZE = 4
"""Channels of a gate's input over those of its hidden layer."""


def normalise(pixels: Tensor) -> Tensor:
    """uint8 NHWC pixels to the float32 NCHW input of both networks (channels-last in memory)."""
    mean = torch.tensor(MEAN) * 255
    std = torch.tensor(STD) * 255
    return ((pixels.float() - mean) / std).permute(0, 3, 1, 2)


def _convolution(before: int, after: int, size: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    # Kernels of even side tile the map as patches and need no border.
    padding = size // 2 if size % 2 else 0
    return [
        nn.Conv2d(before, after, size, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(after),
    ]


class SqueezeExcite(nn.Module):
    """Scale each channel by a gate computed from the whole map: (N, C, H, W) to the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, channels // SQUEEZE, 1)
        self.expand = nn.Conv2d(channels // SQUEEZE, channels, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        context = maps.mean((2, 3), keepdim=True)
        gate = torch.sigmoid(self.expand(torch.relu(self.reduce(context))))
        return maps * gate


class Block(nn.Module):
    """A residual block, (N, width, H, W) to the same; nothing follows the sum, so the stream stays linear."""

    def __init__(self, width: int, expansion: int) -> None:
        super().__init__()
        layers: list[nn.Module]
        if expansion == 0:
            layers = [*_convolution(width, width, 3), nn.ReLU(inplace=True), *_convolution(width, width, 3)]
        else:
            hidden = width * expansion
            layers = [
                *_convolution(width, hidden, 1),
                nn.ReLU(inplace=True),
                *_convolution(hidden, hidden, 3, groups=hidden),
                nn.ReLU(inplace=True),
                *_convolution(hidden, width, 1),
                SqueezeExcite(width),
            ]
        self.layers = nn.Sequential(*layers)

    def forward(self, maps: Tensor) -> Tensor:
        """(N, width, H, W) to the same."""
        change: Tensor = self.layers(maps)
        return maps + change


def _trunk() -> Iterator[nn.Module]:
    before, stride = 3, 4
    for stage in STAGES:
        yield from _convolution(before, stage.width, stage.kernel, stride)
        for _ in range(stage.depth):
            yield Block(stage.width, stage.expansion)
        before, stride = stage.width, 2
    yield from _convolution(before, FEATURES, 1)
    yield nn.ReLU(inplace=True)


class Student(nn.Module):
    """The network that is exported.

    `forward` takes normalised float images (N, 3, 128, 128) and returns embeddings (N, 192). They
    predict the teacher's class token with each dimension standardised over the training views, so
    they are centred: cosine similarities spread out over different images.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(*_trunk())
        self.project = nn.Linear(FEATURES, EMBEDDING_DIM)

    def maps(self, images: Tensor) -> Tensor:
        """The last feature map, (N, 512, 4, 4)."""
        last: Tensor = self.trunk(images)
        return last

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, 128, 128) to (N, 192)."""
        return self.pool(self.maps(images))

    def pool(self, maps: Tensor) -> Tensor:
        """Feature maps (N, 512, 4, 4) to embeddings (N, 192)."""
        embeddings: Tensor = self.project(maps.mean((2, 3)))
        return embeddings


def load_student(weights: Path) -> Student:
    """A student in evaluation mode from a safetensors file that `train` wrote."""
    model = Student()
    model.load_state_dict(load_file(weights), strict=True)
    return model.eval().requires_grad_(False)
