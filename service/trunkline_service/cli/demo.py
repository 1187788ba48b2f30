"""trunkline demo: the whole loop on real images, in a minute, with nothing to download."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import click

import trunkline
from trunkline_service.cli import output
from trunkline_service.cli.demo_images import write_demo_images
from trunkline_service.settings import load

_COLLECTION = "demo"
_HEAD = "demo-head"
_HOME = Path("trunkline-demo")
_QUERIES = 3
_LATENCY_CALLS = 20


@click.command(short_help="Watch it work: serve, embed, learn a task, look up neighbours.")
@click.argument("images", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--port", default=0, help="Port of the demo's server.  [default: a free one]")
def demo(images: Path | None, port: int) -> None:
    """Runs the main job from end to end on IMAGES (a folder; subfolders are labels).

    Without IMAGES it takes 1,797 scanned digits and two photographs that come with scikit-learn. All that it
    makes is in ./trunkline-demo, so that you can go on from there.

    Example: trunkline demo photos/
    """
    from trunkline_service.server.app import Server

    began = time.perf_counter()
    data = _HOME / "data"
    # A demo begins at the beginning; nothing of the user's is in here.
    shutil.rmtree(data, ignore_errors=True)
    own = images is None
    folder = images if images is not None else write_demo_images(_HOME / "images")
    flags = {"models": str(_HOME / "models"), "data": str(data), "listen": f"127.0.0.1:{port}"}
    server = Server(load(flags))
    try:
        _step("1", "serve a frozen backbone")
        server.start()
        card = server.workspace.models.get().card
        output.say(
            f"   {card.reference} on {server.address} (gRPC): {card.parameters / 1e6:.1f} M parameters, "
            f"{card.preprocess.input_size[0]} pixels -> {card.dim} floats, {server.workspace.device}"
        )
        with trunkline.Client(str(server.address)) as client:
            labelled = _embed(server, folder)
            _call(client, folder, own)
            if labelled:
                _learn(server, client, folder)
            _look_up(client, folder)
    finally:
        server.stop()
    _go_on(folder, labelled, time.perf_counter() - began)


def _step(number: str, title: str) -> None:
    output.console().print(f"\n[bold]{number}. {title}[/bold]")


def _embed(server: object, folder: Path) -> bool:
    """Embeds the folder into a collection; says whether there are labels to learn."""
    from trunkline_service.jobs.local import LocalTarget
    from trunkline_service.jobs.pipeline import IN_FLIGHT
    from trunkline_service.jobs.run import run
    from trunkline_service.jobs.sources import FolderSource
    from trunkline_service.server.app import Server

    assert isinstance(server, Server)
    _step("2", "embed images into a collection")
    source = FolderSource(folder)
    output.say(f"   {folder}: {source.describe()}")
    result = run(LocalTarget(server.workspace, _COLLECTION, in_flight=IN_FLIGHT), source)
    output.say(
        f"   {result.embedded:,} embedded and stored in {result.seconds:.1f} s "
        f"({result.embedded / result.seconds:.0f} images/s), {sum(result.errors.values())} failed"
    )
    labels = {item.label for item in source.items() if item.label is not None}
    return len(labels) > 1


def _call(client: trunkline.Client, folder: Path, own: bool) -> None:
    """One image after the other over the socket, and a bad one among good ones."""
    _step("3", "ask the server, as another service would")
    paths = _some(sorted(folder.parent.glob("photographs/*.jpg")) if own else _files(folder), 2)
    client.embed(paths)
    started = time.perf_counter()
    for _ in range(_LATENCY_CALLS):
        vectors = client.embed(paths[0]).vectors
    elapsed = (time.perf_counter() - started) / _LATENCY_CALLS
    output.say(
        f"   {paths[0].name} -> {vectors.shape[1]} floats in {elapsed * 1000:.1f} ms, decoding included"
    )
    result = client.embed([paths[0], b"this is no image", paths[-1]])
    output.say(
        f"   a bad one among three: {int(result.ok.sum())} served; image 1: {result.errors[0].message}"
    )


def _learn(server: object, client: trunkline.Client, folder: Path) -> None:
    from trunkline_service.heads.evaluation.evaluate import Evaluation
    from trunkline_service.server.app import Server

    assert isinstance(server, Server)
    _step("4", "learn a new task from the stored embeddings; the backbone stays as it is")
    started = time.perf_counter()
    card = server.workspace.fit_head(_COLLECTION, _HEAD, report=False)
    assert isinstance(card.metrics, Evaluation), "a fitted classifier was evaluated"
    low, high = card.metrics.accuracy_interval
    output.say(
        f"   head {card.name}@{card.version}: {len(card.classes)} classes from {output.counted(card.rows, 'image')} in "
        f"{time.perf_counter() - started:.1f} s"
    )
    output.console().print(
        f"   cross-validated accuracy [bold]{card.metrics.accuracy:.3f}[/bold] "
        f"(95% interval {low:.3f} to {high:.3f}; always naming the largest class: "
        f"{card.metrics.baseline_accuracy:.3f})"
    )
    paths = _spread(folder)
    predicted = client.predict(paths, head=_HEAD)
    for path, label, probability in zip(
        paths, predicted.labels, predicted.probabilities.max(axis=1), strict=True
    ):
        output.say(f"   {path.relative_to(folder)}  ->  {label} ({probability:.2f})")


def _look_up(client: trunkline.Client, folder: Path) -> None:
    _step("5", "look up neighbours")
    paths = _spread(folder)
    found = client.search(_COLLECTION, paths, k=6)
    for row, path in enumerate(paths):
        own_id = path.relative_to(folder).as_posix()
        hits = [
            f"{row_id} ({score:.3f})"
            for row_id, score in zip(found.ids[row], found.scores[row], strict=True)
            if row_id != own_id
        ]
        output.say(f"   {own_id}:  {'  '.join(hits[:5])}")


def _files(folder: Path) -> list[Path]:
    from trunkline_service.jobs.sources import FolderSource
    from trunkline_service.jobs.sources.reading import path_of

    return [folder / path_of(item.id) for item in FolderSource(folder).items()]


def _spread(folder: Path) -> list[Path]:
    """A few images, from the beginning to the end of the folder."""
    return _some(_files(folder), _QUERIES)


def _some(paths: Sequence[Path], most: int) -> list[Path]:
    step = max(1, len(paths) // most)
    return list(paths[step // 2 :: step][:most])


def _go_on(folder: Path, labelled: bool, seconds: float) -> None:
    output.console().print(f"\n[bold]Done in {seconds:.0f} s.[/bold] To go on from here:")
    place = f"--models {_HOME / 'models'} --data {_HOME / 'data'}"
    example = _spread(folder)[0]
    lines = [
        f"trunkline serve {place}",
        f"trunkline search {example} --collection {_COLLECTION} {place}",
        *([f"trunkline predict {example} --head {_HEAD} {place}"] if labelled else []),
        "trunkline embed YOUR_FOLDER --into photos        # subfolders are labels",
        "trunkline export timm:vit_small_patch14_dinov2.lvd142m   # a stronger backbone (trunkline[export])",
    ]
    for line in lines:
        output.say(f"   {line}")
