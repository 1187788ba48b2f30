"""Progress and training state on disk: safetensors and JSON, replaced atomically, never pickled."""

import json
import os
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn, optim

STATE_FILE = "state.safetensors"
RECORD_FILE = "train.json"
WEIGHTS_FILE = "student.safetensors"
MOMENTS = ("exp_avg", "exp_avg_sq")


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write contiguous copies and swap them in, so that readers never see half a file."""
    partial = path.with_suffix(".partial")
    save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, partial)
    os.replace(partial, path)


def write_record(path: Path, record: dict[str, object]) -> None:
    """Write settings and progress as JSON, swapped in whole."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(record, indent=2))
    os.replace(partial, path)


def read_record(path: Path) -> dict[str, object] | None:
    """What `write_record` wrote last, or None before its first time."""
    if not path.exists():
        return None
    record: dict[str, object] = json.loads(path.read_text())
    return record


def save_state(folder: Path, model: nn.Module, average: nn.Module, optimizer: optim.AdamW) -> None:
    """Everything that a resumed run needs: weights, their average, Adam's two moments by name."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {f"average.{name}": tensor for name, tensor in average.state_dict().items()}
    for name, parameter in model.named_parameters():
        for moment in MOMENTS:
            tensors[f"{moment}.{name}"] = optimizer.state[parameter][moment]
    write_tensors(folder / STATE_FILE, tensors)


@torch.no_grad()
def load_state(
    folder: Path, model: nn.Module, average: nn.Module, optimizer: optim.AdamW, step: Tensor
) -> None:
    """Restore what `save_state` wrote; `step` is the count of updates so far, a float32 scalar."""
    tensors = load_file(folder / STATE_FILE)
    for prefix, module in (("model.", model), ("average.", average)):
        own = {name: tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        nn.modules.utils.consume_prefix_in_state_dict_if_present(own, prefix)
        module.load_state_dict(own, strict=True)
    for name, parameter in model.named_parameters():
        # A copy laid out like the parameter: the fused optimiser walks both memories side by side.
        moments = {key: torch.empty_like(parameter).copy_(tensors[f"{key}.{name}"]) for key in MOMENTS}
        optimizer.state[parameter] = {"step": step.clone(), **moments}
