"""Passes on a device of PyTorch's; everything between the passes stays the same."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trunkline_service.errors import InvalidArgument
from trunkline_service.heads.solver.basis import Basis
from trunkline_service.heads.solver.losses import Loss, Softmax
from trunkline_service.heads.solver.passes import Pass, Values, finished
from trunkline_service.heads.solver.problems import Problems
from trunkline_service.heads.solver.rows import Rows

Array = NDArray[Any]
_BLOCK = 8192


class TorchPass(Pass):
    """Evaluates problems with PyTorch; the rows move to the device once."""

    def __init__(
        self,
        rows: Rows,
        basis: Basis,
        loss: Loss,
        row_weights: NDArray[np.float64],
        row_folds: NDArray[np.int64],
        device: str,
    ) -> None:
        """As `NumpyPass`, on a device such as ``cuda`` or ``cuda:1``.

        Raises:
            InvalidArgument: PyTorch is not installed, or has no such device.
        """
        self._torch, self._device = _open(device)
        self._basis = basis
        self._softmax = isinstance(loss, Softmax)
        self._targets = self._tensor(loss.targets)
        self._weights = self._tensor(row_weights.astype(rows.dtype))
        self._folds = self._tensor(row_folds)
        blocks = (rows.block(slice(start, start + _BLOCK)) for start in range(0, len(rows), _BLOCK))
        self._rows = self._torch.cat([self._tensor(block) for block in blocks])

    def __call__(self, problems: Problems, weights: Array, *, curvature: bool = False) -> Values:
        """See `Pass`."""
        torch = self._torch
        coefficients = self._tensor(self._basis.to_features(weights))
        left_out = self._tensor(problems.folds)
        losses = torch.zeros(len(problems), dtype=torch.float64, device=self._device)
        gradient = self._tensor(np.zeros(weights.shape, weights.dtype))
        curvatures = torch.zeros_like(coefficients[..., -1])
        for start in range(0, len(self._rows), _BLOCK):
            here = slice(start, start + _BLOCK)
            rows = self._rows[here]
            counts = (self._folds[None, here] != left_out[:, None]) * self._weights[None, here]
            loss, residuals, curved = self._loss(coefficients @ rows.T, here)
            losses += (loss * counts).sum(1, dtype=torch.float64)
            residuals = residuals * counts
            gradient += residuals @ rows
            if curvature:
                curvatures += (curved * counts).sum(2)
        host = [tensor.cpu().numpy() for tensor in (losses, gradient, curvatures)]
        return finished(problems, weights, self._basis, host[0], host[1], host[2] if curvature else None)

    def logits(self, weights: Array, positions: NDArray[np.int64]) -> Array:
        """See `Pass`."""
        coefficients = self._tensor(self._basis.to_features(weights))
        found = coefficients @ self._rows[self._tensor(positions)].T
        logits: Array = found.cpu().numpy()
        return logits

    def _loss(self, logits: Any, here: slice) -> tuple[Any, Any, Any]:
        """Losses (B, n), residuals and curvatures (K, B, n)."""
        torch = self._torch
        targets = self._targets[here]
        if self._softmax:
            logged = torch.log_softmax(logits, 0)
            chances = logged.exp()
            truth = torch.nn.functional.one_hot(targets, len(logits)).T[:, None].to(chances.dtype)
            return -(logged * truth).sum(0), chances - truth, chances * (1 - chances)
        truth = targets.T[:, None].to(logits.dtype)
        chances = torch.sigmoid(logits)
        losses = torch.nn.functional.softplus(logits, threshold=1e9) - logits * truth
        return losses.sum(0), chances - truth, chances * (1 - chances)

    def _tensor(self, values: Array) -> Any:
        # A copy: numpy's may be read-only, which PyTorch can't express.
        return self._torch.tensor(np.ascontiguousarray(values), device=self._device)


def _open(device: str) -> tuple[Any, Any]:
    try:
        import torch
    except ImportError as exc:
        raise InvalidArgument(
            f"device {device!r} needs PyTorch, which is not installed; use device 'cpu', or "
            "pip install 'trunkline[export]'"
        ) from exc
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen)
    except (RuntimeError, AssertionError) as exc:
        raise InvalidArgument(f"PyTorch can't use device {device!r}: {exc}; use device 'cpu'") from exc
    return torch, chosen
