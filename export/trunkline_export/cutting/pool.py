"""From a feature map or a sequence of tokens to one vector an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch

from trunkline_service.errors import ExportError

POOLS: Final = ("avg", "max", "gem", "cls", "cls+avg", "flatten", "none")
# The usual fixed exponent, and the floor that keeps the root's input positive (Radenović et al. 2018).
_GEM_EXPONENT = 3.0
_GEM_FLOOR = 1e-6
_L2_FLOOR = 1e-12


@dataclass(frozen=True)
class Layout:
    """How a network's inner tensors lie.

    Attributes:
        prefix_tokens: Class and register tokens before those of the patches, in sequences [N, T, C].
        channels_last: Whether maps are [N, H, W, C] rather than [N, C, H, W].
    """

    prefix_tokens: int = 0
    channels_last: bool = False


class Pool(torch.nn.Module):
    """One of ``POOLS``, over the places of a map or the patch tokens of a sequence.

    ``avg`` and ``max`` are the mean and the largest value of each channel; ``gem`` is the generalised mean
    with exponent 3 of the positive part (Radenović et al. 2018, "Fine-tuning CNN Image Retrieval with No
    Human Annotation"); ``cls`` is the class token, the first; ``cls+avg`` is both, one after the other
    (Oquab et al. 2023, DINOv2's linear probe); ``flatten`` keeps every value, channel by channel; ``none``
    takes what is one vector an image already.

    Args:
        kind: The pool.
        layout: Of the tensors it will be given.
    """

    def __init__(self, kind: str, layout: Layout) -> None:
        super().__init__()
        self.kind = kind
        self.layout = layout

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[N, C, H, W] (or [N, H, W, C]), [N, T, C] or [N, D] to [N, D].

        Raises:
            ExportError: The pool has no meaning for a tensor of this shape.
        """
        match self.kind:
            case "none":
                pooled = self._vector(features)
            case "flatten":
                pooled = self._channels_first(features).flatten(1)
            case "cls":
                pooled = self._class_token(features)
            case "cls+avg":
                pooled = torch.cat([self._class_token(features), self._places(features).mean(2)], dim=1)
            case "avg":
                pooled = self._places(features).mean(2)
            case "max":
                pooled = self._places(features).amax(2)
            case _:
                positive = self._places(features).clamp(min=_GEM_FLOOR)
                pooled = positive.pow(_GEM_EXPONENT).mean(2).pow(1.0 / _GEM_EXPONENT)
        return pooled

    def _vector(self, features: torch.Tensor) -> torch.Tensor:
        if features.dim() != 2:
            raise ExportError(
                f"pool 'none' takes one vector an image, and the layer gives {list(features.shape)}; "
                "give --pool avg, or --pool flatten to keep every value"
            )
        return features

    def _class_token(self, features: torch.Tensor) -> torch.Tensor:
        if features.dim() != 3 or self.layout.prefix_tokens == 0:
            raise ExportError(
                f"pool {self.kind!r} needs a class token, and the layer gives {list(features.shape)} without "
                "one; give --pool avg"
            )
        return features[:, 0]

    def _places(self, features: torch.Tensor) -> torch.Tensor:
        """[N, C, places], without prefix tokens."""
        if features.dim() == 3:
            return features[:, self.layout.prefix_tokens :].transpose(1, 2)
        if features.dim() == 4:
            return self._channels_first(features).flatten(2)
        raise ExportError(
            f"pool {self.kind!r} takes a feature map or a sequence of tokens, and the layer gives "
            f"{list(features.shape)}; give --pool none"
        )

    def _channels_first(self, features: torch.Tensor) -> torch.Tensor:
        if features.dim() == 4 and self.layout.channels_last:
            # Contiguous, so that what is flattened lies as in a network that keeps channels first.
            return features.permute(0, 3, 1, 2).contiguous()
        return features


class UnitLength(torch.nn.Module):
    """Divides each vector by its L2 norm."""

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """[N, D] to [N, D]; a vector of zeros stays one."""
        norms = vectors.pow(2).sum(1, keepdim=True).sqrt()
        return vectors / norms.clamp(min=_L2_FLOOR)
