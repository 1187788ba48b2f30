"""All commands, the help page, and the one place where errors become exit codes."""

from __future__ import annotations

import logging
import os
import sys

import click

import trunkline
from trunkline_service.cli.autotune import autotune
from trunkline_service.cli.bench import bench
from trunkline_service.cli.collections import collections
from trunkline_service.cli.compare import compare
from trunkline_service.cli.demo import demo
from trunkline_service.cli.embed import embed
from trunkline_service.cli.export import export
from trunkline_service.cli.heads import heads
from trunkline_service.cli.health import health
from trunkline_service.cli.models import models
from trunkline_service.cli.predict import predict
from trunkline_service.cli.search import search
from trunkline_service.cli.serve import serve
from trunkline_service.errors import TrunklineError

_FIRST_DAY = ("demo", "export", "embed", "heads", "serve")
# They tell of how they were loaded, and how long each of their steps took.
_TALKATIVE = ("faiss", "pylance")
_EXTRAS = {"torch": "export", "torchvision": "export", "timm": "export", "onnxscript": "export"}


class Commands(click.Group):
    """Shows the five commands of a first day, then the rest."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """See click.Group."""
        rest = [name for name in self.list_commands(ctx) if name not in _FIRST_DAY]
        for title, names in (("On a first day", list(_FIRST_DAY)), ("Then", rest)):
            with formatter.section(title):
                commands = [(name, self.get_command(ctx, name)) for name in names]
                formatter.write_dl(
                    [(name, command.get_short_help_str(90)) for name, command in commands if command]
                )


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="trunkline", prog_name="trunkline")
@click.option("-v", "--verbose", is_flag=True, help="Log what is going on.")
def trunkline_command(verbose: bool) -> None:
    """Frozen backbones as embeddings: export, serve, learn heads, search.

    Every command opens ./models and ./data here (--models, --data), or asks a server (--server).
    """
    level = logging.INFO if verbose else logging.WARNING
    handler = logging.StreamHandler(sys.stderr)
    # Some libraries set the level of their loggers themselves, so that it is the handler that is asked.
    handler.setLevel(level)
    handler.addFilter(is_told)
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s", handlers=[handler])


for _command in (
    autotune,
    bench,
    collections,
    compare,
    demo,
    embed,
    export,
    heads,
    health,
    models,
    predict,
    search,
    serve,
):
    trunkline_command.add_command(_command)


def is_told(record: logging.LogRecord) -> bool:
    """Whether a line of a log is worth being read: of talkative libraries, warnings and errors alone."""
    return record.levelno >= logging.WARNING or record.name.partition(".")[0] not in _TALKATIVE


def run() -> int:
    """Runs the command line of this process; returns the exit status: 0, 1 for an error, 2 for usage."""
    try:
        status = trunkline_command.main(prog_name="trunkline", standalone_mode=False)
    except click.ClickException as exc:
        exc.show()
        return exc.exit_code
    except (click.Abort, KeyboardInterrupt):
        sys.stderr.write("interrupted\n")
        return 130
    except BrokenPipeError:
        # The reader went away (`| head`); nothing is wrong. Keep the interpreter from flushing into it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (TrunklineError, trunkline.TrunklineError, ModuleNotFoundError, OSError) as exc:
        sys.stderr.write(f"trunkline: {_sentence(exc)}\n")
        return 1
    return status if isinstance(status, int) else 0


def _sentence(exc: Exception) -> str:
    """An error as a user reads it."""
    if isinstance(exc, ModuleNotFoundError):
        extra = _EXTRAS.get((exc.name or "").partition(".")[0], "server")
        return f"this command needs {exc.name!r}, which is not installed: pip install 'trunkline[{extra}]'"
    if isinstance(exc, OSError):
        return f"{exc.strerror or exc}" + (f": {exc.filename!r}" if exc.filename else "")
    return str(exc)
