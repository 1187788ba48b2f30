"""Train the student on stored views: long, with one schedule, keeping an average of the weights."""

import copy
import logging
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn, optim

from trunkline_export.bundled import checkpoint
from trunkline_export.bundled.losses import DistilLoss, LossWeights
from trunkline_export.bundled.student import EMBEDDING_DIM, FEATURES, Student, normalise
from trunkline_export.bundled.views import ViewSet

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DistilConfig:
    """One training run.

    Attributes
    ----------
    output : folder for `student.safetensors`, the state to resume from and the record of losses.
    rate : peak learning rate of AdamW (Loshchilov and Hutter, 2019) after `warmup` steps.
    average_decay : share of the running average of weights kept at each step.
    initial : a student's weights to start from instead of random ones.
    """

    output: Path
    epochs: int = 9
    batch: int = 128
    rate: float = 2e-3
    weight_decay: float = 0.05
    warmup: int = 300
    average_decay: float = 0.998
    bf16: bool = True
    seed: int = 0
    initial: Path | None = None
    loss: LossWeights = field(default_factory=LossWeights)


class Distiller(nn.Module):
    """The student and a linear layer for the dense targets, which is left behind after training."""

    def __init__(self, student: Student) -> None:
        super().__init__()
        self.student = student
        self.dense = nn.Linear(FEATURES, EMBEDDING_DIM)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, 128, 128) to embeddings (N, 192) and grids (N, 4, 4, 192)."""
        maps = self.student.maps(images)
        return self.student.pool(maps), self.dense(maps.permute(0, 2, 3, 1))


def learning_rate(step: int, steps: int, config: DistilConfig) -> float:
    """Linear warm-up, then half a cosine down to zero."""
    if step < config.warmup:
        return config.rate * (step + 1) / config.warmup
    share_done = (step - config.warmup) / max(1, steps - config.warmup)
    return config.rate * 0.5 * (1 + math.cos(math.pi * share_done))


def batches(views: ViewSet, epoch: int, config: DistilConfig) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Shuffled (images, class tokens, grids), half of them mirrored.

    The teacher's answer to a mirrored image is very nearly the mirrored answer, so flipping
    doubles the views for nothing. The last, incomplete batch is dropped.
    """
    rng = np.random.default_rng((config.seed, epoch))
    order = rng.permutation(len(views))
    for start in range(0, len(order) - config.batch + 1, config.batch):
        # Ascending positions read the files forwards.
        rows = np.sort(order[start : start + config.batch])
        pixels, grids = views.pixels[rows], views.grids[rows]
        mirrored = rng.random(config.batch) < 0.5
        pixels[mirrored] = pixels[mirrored][:, :, ::-1]
        grids[mirrored] = grids[mirrored][:, :, ::-1]
        class_tokens = torch.from_numpy(views.class_tokens[rows]).float()
        yield normalise(torch.from_numpy(pixels)), class_tokens, torch.from_numpy(grids).float()


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move `average` towards `model`, batch statistics included."""
    for kept, new in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if kept.is_floating_point():
            kept.lerp_(new, 1 - decay)
        else:
            kept.copy_(new)


def _optimizer(model: nn.Module, config: DistilConfig) -> optim.AdamW:
    """AdamW that decays matrices and kernels alone: biases and norms have nothing to regularise."""
    decayed = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return optim.AdamW(groups, lr=config.rate, fused=True)


class Trainer:
    """A run in progress: `run` takes it from where it stands to the end."""

    def __init__(self, views: ViewSet, loss: DistilLoss, config: DistilConfig) -> None:
        torch.manual_seed(config.seed)
        student = Student()
        if config.initial is not None:
            student.load_state_dict(load_file(config.initial), strict=True)
        self.model = Distiller(student).to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.optimizer = _optimizer(self.model, config)
        self.views, self.loss, self.config = views, loss, config
        self.steps_per_epoch = len(views) // config.batch
        self.history: list[dict[str, float]] = []

    def run(self) -> Path:
        """Train, saving after each epoch; returns the path of the inference weights."""
        self.config.output.mkdir(parents=True, exist_ok=True)
        self._resume()
        for epoch in range(len(self.history), self.config.epochs):
            self.history.append(self._epoch(epoch))
            self._save()
            log.info("epoch %d: %s", epoch + 1, self.history[-1])
        return self.config.output / checkpoint.WEIGHTS_FILE

    def _epoch(self, epoch: int) -> dict[str, float]:
        self.model.train()
        started = time.perf_counter()
        total = torch.zeros(3)
        for position, (images, *wanted) in enumerate(batches(self.views, epoch, self.config)):
            step = epoch * self.steps_per_epoch + position
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(step, self.steps_per_epoch * self.config.epochs, self.config)
            with torch.autocast("cpu", torch.bfloat16, enabled=self.config.bf16):
                embeddings, grids = self.model(images)
            terms = torch.stack(self.loss((embeddings.float(), grids.float()), (wanted[0], wanted[1])))
            self.optimizer.zero_grad()
            torch.autograd.backward(terms.sum())
            self.optimizer.step()
            # A young average forgets faster, or it would long remember the random start.
            update_average(self.average, self.model, min(self.config.average_decay, (1 + step) / (10 + step)))
            total += terms.detach()
            if (position + 1) % 100 == 0:
                rate = (position + 1) * self.config.batch / (time.perf_counter() - started)
                mean = _named(total / (position + 1))
                log.info("epoch %d step %d: %s, %.0f views/s", epoch + 1, position + 1, mean, rate)
        return {**_named(total / self.steps_per_epoch), "seconds": round(time.perf_counter() - started, 1)}

    def _record(self) -> dict[str, object]:
        settings = asdict(self.config)
        settings |= {"output": None, "initial": self.config.initial and self.config.initial.name}
        return {"settings": settings, "views": len(self.views)}

    def _save(self) -> None:
        folder = self.config.output
        checkpoint.save_state(folder, self.model, self.average, self.optimizer)
        averaged = self.average.get_submodule("student").state_dict()
        checkpoint.write_tensors(folder / checkpoint.WEIGHTS_FILE, averaged)
        checkpoint.write_record(folder / checkpoint.RECORD_FILE, {**self._record(), "history": self.history})

    def _resume(self) -> None:
        record = checkpoint.read_record(self.config.output / checkpoint.RECORD_FILE)
        if record is None:
            return
        history = record.pop("history")
        if record != self._record() or not isinstance(history, list):
            raise ValueError(f"{self.config.output} holds a run with other settings; choose another folder")
        self.history = history
        steps = torch.tensor(float(len(history) * self.steps_per_epoch))
        checkpoint.load_state(self.config.output, self.model, self.average, self.optimizer, steps)
        log.info("resuming after epoch %d", len(history))


def _named(terms: Tensor) -> dict[str, float]:
    names = ("embedding", "grid", "classes")
    return {name: round(float(term), 4) for name, term in zip(names, terms, strict=True)}
