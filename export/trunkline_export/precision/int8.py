"""fp32 to int8, for CPUs: static, calibrated, with operators left in float32 where int8 costs parity."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from trunkline_export.precision import blame, choice, front, prepare, qdq, written
from trunkline_export.precision.blame import Sample
from trunkline_export.precision.ranges import Pixels, measure, opset
from trunkline_export.precision.report import Agreement, Kept, Report
from trunkline_service.errors import ExportError, ParityError

Judge = Callable[[Path], Agreement]

METHOD = "static int8 (QDQ): weights symmetric with a scale an output channel, activations asymmetric uint8"
# A few images reach much further than the others; room for them costs all others resolution.
COVERED = 0.9
# Below this share of multiply-adds in int8, a file is fp32 with extra steps.
LEAST_SHARE = 0.25
# Enough to rank operators by; each is measured with its own run of the network.
_SAMPLE = 8
# A scale a channel exists since then.
_LEAST_OPSET = 13
_EMBEDS = "it reads the pixels and nothing after it is int8"
_COSTLY = "int8 costs parity there"


@dataclass(frozen=True)
class _Network:
    """What there is to choose from.

    Attributes:
        model: Prepared, fp32.
        work: Multiply-adds of each operator with weights, by name, in graph order.
        ranges: Of every tensor.
        images: How many they were measured on.
        sample: A few of those images.
        portable: Whether weights use 7 of the 8 bits.
    """

    model: onnx.ModelProto
    work: dict[str, int]
    ranges: qdq.Ranges
    images: int
    sample: Pixels
    portable: bool

    def share(self, chosen: Iterable[str]) -> float:
        """Multiply-adds of some operators, as a share of all."""
        return sum(self.work[name] for name in chosen) / max(1, sum(self.work.values()))


def quantize(
    source: Path,
    target: Path,
    calibration: Pixels | Iterable[Pixels],
    judge: Judge,
    *,
    portable: bool = True,
    progress: Callable[[str], None] = lambda _: None,
) -> Report:
    """Writes an int8 file that the judge accepts, with as many operators in int8 as that allows.

    If the whole does not pass, each operator is measured in int8 alone, and the costliest stay float32: as
    few as pass. Calibration keeps two numbers a tensor and image, never the tensors.

    Args:
        source: An fp32 file, uint8 [batch, height, width, 3] to float32 [batch, dim].
        target: The file to write.
        calibration: Images like those that will be served, prepared: uint8 [N, height, width, 3], or batches
            of them. Other ones than the judge's, or its verdict flatters.
        judge: Compares a file with the reference.
        portable: Whether the file is for every CPU. x86 without VNNI adds products in pairs of 16 bits, which
            8-bit weights overflow: such a CPU computes other vectors, and says nothing. So weights get 7 bits,
            at some cost in parity and none in speed. Without it, serve on CPUs with VNNI alone.
        progress: Is told, in a few words, what begins.

    Raises:
        ParityError: No choice of operators passes that leaves a quarter of the multiply-adds in int8.
        ExportError: The file can't be read, or there are no images.
    """
    progress("calibrating")
    network = _network(source, calibration, portable)
    every = list(network.work)
    chosen = _without(network, every, ())
    if not chosen:
        raise ParityError(f"{source.name} has no operator that int8 makes faster; publish fp32 or fp16")
    reasons = dict.fromkeys((name for name in every if name not in chosen), _EMBEDS)
    verdict = _written(network, chosen, target, judge)
    if not verdict.passed:
        progress(f"measuring {len(chosen)} operators one by one, since int8 throughout costs too much")
        costly, verdict = _fewer(network, chosen, target, judge, verdict, progress)
        chosen = _without(network, chosen, costly)
        reasons = dict.fromkeys((name for name in every if name not in chosen), _EMBEDS)
        reasons |= dict.fromkeys(costly, _COSTLY)
    types = {node.name: node.op_type for node in network.model.graph.node}
    along = choice.between(network.model.graph, chosen)
    return Report(
        precision="int8",
        method=METHOD + ("; weights in 7 bits" if portable else "; for CPUs with VNNI alone"),
        images=network.images,
        converted=dict(sorted(Counter(types[name] for name in (*chosen, *along)).items())),
        kept=tuple(Kept(name, types[name], reasons[name]) for name in every if name in reasons),
        share=network.share(chosen),
        agreement=verdict,
    )


def _network(source: Path, calibration: Pixels | Iterable[Pixels], portable: bool) -> _Network:
    model = prepare.load_folded(source)
    if opset(model) < _LEAST_OPSET:
        raise ExportError(
            f"{source.name} is written in ONNX operator set {opset(model)}; int8 needs {_LEAST_OPSET} or later: "
            "export the network again"
        )
    front.fold(model.graph)
    sample = Sample(_SAMPLE)
    batches = [calibration] if isinstance(calibration, np.ndarray) else calibration
    found, images = measure(model, sample.passing(batches))
    covering = {
        name: extremes.covering(COVERED)
        for name, extremes in found.items()
        if np.isfinite(extremes.magnitude)
    }
    return _Network(model, choice.multiply_adds(model), covering, images, sample.images(), portable)


def _written(network: _Network, chosen: Sequence[str], target: Path, judge: Judge) -> Agreement:
    written.write(qdq.quantized(network.model, chosen, network.ranges, network.portable), target)
    return judge(target)


def _fewer(
    network: _Network,
    chosen: Sequence[str],
    target: Path,
    judge: Judge,
    throughout: Agreement,
    progress: Callable[[str], None],
) -> tuple[list[str], Agreement]:
    """The fewest costly operators without which the rest passes, and the verdict on it; writes that file."""
    costs = blame.costs(network.model, chosen, network.ranges, network.sample, network.portable)
    costliest = sorted(chosen, key=lambda name: (-costs[name], name))
    left = {count: _without(network, chosen, costliest[:count]) for count in range(len(chosen) + 1)}
    fails = 0
    passes = max(count for count in left if count == 0 or network.share(left[count]) >= LEAST_SHARE)
    progress(f"keeping up to {passes} of {len(chosen)} operators float32")
    verdict = _written(network, left[passes], target, judge) if passes else throughout
    if not verdict.passed:
        target.unlink(missing_ok=True)
        worst = ", ".join(f"{name} ({costs[name]:.1e})" for name in costliest[:3])
        raise ParityError(
            f"int8 does not hold parity: {throughout} with all of {len(chosen)} operators in int8; {verdict} with "
            f"{passes} of them kept float32, the most that are worth it. Worst alone (1 - cosine): {worst}. "
            "Give images like those that will be served (--calibrate), or publish fp32 or fp16"
        )
    held = passes
    while passes - fails > 1:
        held = (passes + fails) // 2
        attempt = _written(network, left[held], target, judge)
        if attempt.passed:
            passes, verdict = held, attempt
        else:
            fails = held
    if held != passes:
        verdict = _written(network, left[passes], target, judge)
    return costliest[:passes], verdict


def _without(network: _Network, chosen: Sequence[str], taken: Sequence[str]) -> list[str]:
    left = [name for name in chosen if name not in taken]
    embeddings = choice.embeddings(network.model.graph, left)
    return [name for name in left if name not in embeddings]
