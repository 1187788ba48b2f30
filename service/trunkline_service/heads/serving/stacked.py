"""Several heads of one space at once: the linear ones as one matrix product."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from trunkline_service.errors import InvalidArgument, SpaceMismatch
from trunkline_service.heads.network import Distance, Network
from trunkline_service.heads.serving.loaded import Answer, LoadedHead
from trunkline_service.heads.serving.onnx_head import INPUT
from trunkline_service.heads.serving.session import open_session
from trunkline_service.heads.serving.stacked_graph import distances_model, outputs_model

# Heads beyond it gain nothing from company, and one ONNX file holds no more than twice as much.
_MAX_BYTES = 2**30
T = TypeVar("T")


class StackedHeads:
    """Heads whose answers come from one pass; safe to use from many threads.

    The weights of linear heads of one size stand in one matrix, so that a hundred of them cost little more
    than one. The other heads run one by one.

    Attributes:
        heads: In the order of the answers.
    """

    def __init__(self, heads: Sequence[LoadedHead]) -> None:
        """Stacks them.

        Raises:
            InvalidArgument: There are none.
            SpaceMismatch: They are of several spaces, naming two.
        """
        if not heads:
            raise InvalidArgument("no head is asked for; name at least one")
        first = heads[0].card
        for head in heads:
            if (head.card.space_id, head.card.dim) != (first.space_id, first.dim):
                raise SpaceMismatch(
                    f"head {first.ref} takes embeddings of space {first.space_id} (dim {first.dim}), and head "
                    f"{head.card.ref} those of {head.card.space_id} (dim {head.card.dim}); ask for them in "
                    "two calls"
                )
        self.heads = tuple(heads)
        self._linear = _fitting(heads) if len(heads) > 1 else {}
        self._groups = _grouped(self._linear, lambda network: (network.activation, network.outputs))

    def outputs(self, embeddings: NDArray[np.float32], space_id: str, distances: bool = True) -> list[Answer]:
        """One answer a head, each as `LoadedHead.answer` gives it.

        Args:
            embeddings: (N, dim) float32; N may be 0.
            space_id: The space that they are of.
            distances: Whether distances are wanted, which cost several times as much as the outputs; where
                not, answers have none.

        Raises:
            SpaceMismatch: They are of another space than the heads.
            InvalidArgument: A wrong shape or dtype.
        """
        self.heads[0].check(embeddings, space_id)
        found: dict[int, NDArray[np.float32]] = {}
        far: dict[int, NDArray[np.float32]] = {}
        if self._linear:
            finite = np.isfinite(embeddings).all(axis=1)
            failed = np.flatnonzero(~finite)
            rows = embeddings
            if len(failed):
                rows = embeddings.copy()
                rows[failed] = 0
            found = _run(self._outputs_session, self._groups, rows, failed)
            if distances and self._distance_groups:
                far = _run(self._distances_session, self._distance_groups, rows, failed)
                for column in far.values():
                    # As `LoadedHead.answer`.
                    column[finite & ~np.isfinite(column)] = np.inf
        answers: list[Answer] = []
        for i, head in enumerate(self.heads):
            if i in found:
                answers.append(Answer(found[i], far.get(i)))
            else:
                answer = head.answer(embeddings, space_id)
                answers.append(answer if distances else Answer(answer.outputs, None))
        return answers

    @cached_property
    def _distance_groups(self) -> list[list[int]]:
        having = {i: network for i, network in self._linear.items() if network.distance is not None}
        return _grouped(having, lambda network: len(_distance(network).directions))

    @cached_property
    def _outputs_session(self) -> Any:
        groups = [[self._linear[i] for i in group] for group in self._groups]
        return open_session(outputs_model(groups), "the stack of heads")

    @cached_property
    def _distances_session(self) -> Any:
        groups = [[_distance(self._linear[i]) for i in group] for group in self._distance_groups]
        return open_session(distances_model(groups), "the stack of distances")


def _fitting(heads: Sequence[LoadedHead]) -> dict[int, Network]:
    """The linear heads by position, as many as fit into one stack."""
    chosen: dict[int, Network] = {}
    room = _MAX_BYTES
    for i, head in enumerate(heads):
        network = head.linear
        if network is None:
            continue
        rows = network.outputs + (0 if network.distance is None else len(network.distance.directions) + 1)
        room -= 4 * rows * network.dim
        if room < 0:
            break
        chosen[i] = network
    return chosen


def _grouped(networks: dict[int, T], key: Callable[[T], Hashable]) -> list[list[int]]:
    """Positions of those that are alike."""
    groups: dict[Hashable, list[int]] = {}
    for i, network in networks.items():
        groups.setdefault(key(network), []).append(i)
    return list(groups.values())


def _run(
    session: Any, groups: list[list[int]], embeddings: NDArray[np.float32], failed: NDArray[np.int64]
) -> dict[int, NDArray[np.float32]]:
    """Each head's part of what a session gives, by its position."""
    found: dict[int, NDArray[np.float32]] = {}
    for group, output in zip(groups, session.run(None, {INPUT: embeddings}), strict=True):
        output[failed] = np.nan
        found |= zip(group, output.swapaxes(0, 1), strict=True)
    return found


def _distance(network: Network) -> Distance:
    assert network.distance is not None
    return network.distance
