"""trunkline autotune."""

from __future__ import annotations

import io
import time
from dataclasses import asdict, astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trunkline_service import settings as settings_module
from trunkline_service.cli import output
from trunkline_service.cli.plans_file import write_plans

if TYPE_CHECKING:
    from trunkline_service.models.repository import ModelFolder, ModelRepository
    from trunkline_service.models.tuning import Tuned
    from trunkline_service.settings import Settings

_COLUMNS = ("threads", "runs", "batch", "images/s", "alone ms", "")
_NUMBERS = _COLUMNS[:-1]
# See `choosing.candidates` and `choosing.choose`.
_RULE = (
    "chosen: of the plans within 10% of the fastest, that of the fewest threads, and then of batch 4 before 1 "
    "before 16; alone ms: one image decoded and embedded while nothing else runs"
)


@click.command(short_help="Measure how models run fastest here; write it to trunkline.toml.")
@click.argument("names", metavar="[MODEL...]", nargs=-1)
@click.option("--models", metavar="DIR", help="Model repository.  [default: ./models]")
@click.option("--device", help="auto, cpu, cuda or cuda:N.  [default: auto]")
@click.option("--threads", type=int, help="Cores to use.  [default: all]")
@click.option(
    "--decode", type=click.Choice(["exact", "fast"]), help="How JPEG is decoded beside it.  [default: exact]"
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=5.0,
    show_default=True,
    help="For each plan; slow ones are given up earlier.",
)
@click.option(
    "--write/--dry-run", default=True, help="Write the plans, or only show them.  [default: --write]"
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def autotune(
    names: tuple[str, ...],
    models: str | None,
    device: str | None,
    threads: int | None,
    decode: str | None,
    seconds: float,
    write: bool,
    as_json: bool,
) -> None:
    """Measures execution plans with photographs decoded beside them, as in a server; all models if none is named.

    A plan says how many threads work in one run of a model, how many runs go at once, and how many images are
    in one. Other programs distort the figures, so run it while the machine is idle. Without a written plan a
    server measures for a second or two when it loads a model for the first time, and remembers what it found.

    Example: trunkline autotune trunkline-small --seconds 2 --dry-run
    """
    from trunkline_service.models.repository import ModelRepository

    flags = {"models": models, "device": device, "threads": threads, "decode": decode}
    settings = settings_module.load(flags)
    folders = _folders(ModelRepository(Path(settings.models)), names)
    photographs = _photographs()
    tuned: list[Tuned] = []
    for folder in folders:
        tuned.append(_tune(folder, settings, photographs, seconds))
        if not as_json:
            _report(tuned[-1], settings)
    path = settings_module.file_of()
    # Nothing is measured on a GPU, and what it does there must not become a CPU's plan.
    plans = {found.card.name: found.plan for found in tuned if found.tried and write}
    if plans:
        write_plans(path, plans)
    if as_json:
        output.print_json([_document(found, path if found.card.name in plans else None) for found in tuned])
    elif plans:
        output.say(f"wrote {', '.join(f'[plans.{name}]' for name in plans)} to {path}")


def _folders(repository: ModelRepository, names: tuple[str, ...]) -> list[ModelFolder]:
    if names:
        folders = [repository.resolve(name) for name in names]
    else:
        cards, problems = repository.cards()
        for problem in problems:
            output.warn(str(problem))
        folders = [repository.resolve(name) for name in sorted({card.name for card in cards})]
    # Two versions of one model would write the same table.
    by_name = {folder.card.name: folder for folder in folders}
    if len(by_name) < len(folders):
        raise click.UsageError("a model is named twice; plans are kept by name, so name one version of it")
    return folders


def _photographs() -> list[bytes]:
    """Two photographs that come inside scikit-learn's wheel, 640 x 427, as JPEG files."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    files: list[bytes] = []
    for pixels in load_sample_images().images:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
        files.append(buffer.getvalue())
    return files


def _tune(folder: ModelFolder, settings: Settings, photographs: list[bytes], seconds: float) -> Tuned:
    from trunkline_service.models.calibration import plan_for
    from trunkline_service.models.session import parse_device
    from trunkline_service.models.trial import Trial
    from trunkline_service.models.tuning import Tuned, tune

    device = parse_device(settings.device)
    if device.kind != "cpu":
        return Tuned(folder.card, plan_for(folder, device, settings), ())
    return tune(Trial(folder, device), settings, photographs, seconds, time.perf_counter)


def _report(found: Tuned, settings: Settings) -> None:
    if not found.tried:
        output.say(
            f"{found.card.reference}: nothing to choose on {settings.device}; "
            f"one run at a time, of up to {output.counted(found.plan.batch, 'image')}"
        )
        return
    output.say(
        f"{found.card.reference} on {output.counted(settings.worker_threads, 'core')}, decode {settings.decode}"
    )
    rows = [
        (
            tried.plan.threads,
            tried.plan.runs,
            tried.plan.batch,
            f"{tried.images_per_second:.1f}",
            f"{tried.alone_ms:.1f}",
            "chosen" if tried.plan == found.plan else None,
        )
        for tried in sorted(found.tried, key=lambda tried: astuple(tried.plan))
    ]
    output.table(_COLUMNS, rows, _NUMBERS)
    output.say(_RULE)


def _document(found: Tuned, path: Path | None) -> dict[str, Any]:
    return {
        "model": found.card.reference,
        "plan": asdict(found.plan),
        "tried": [
            {
                **asdict(tried.plan),
                "images_per_second": round(tried.images_per_second, 2),
                "alone_ms": round(tried.alone_ms, 3),
            }
            for tried in found.tried
        ],
        "written_to": None if path is None else str(path),
    }
