"""The console script. It must start in an installation of the client alone, to say what is missing."""

from __future__ import annotations

import sys


def main() -> int:
    """Runs the command line; returns the exit status."""
    try:
        from trunkline_service.cli.app import run
    except KeyboardInterrupt:
        # Python's own words about it are a traceback.
        return 130
    except ModuleNotFoundError as exc:
        if (exc.name or "").startswith("trunkline"):
            raise
        sys.stderr.write(
            f"trunkline: the command line needs {exc.name!r}, which is not installed: "
            "pip install 'trunkline[server]'\n"
            "(the client alone is here: import trunkline)\n"
        )
        return 1
    return run()


if __name__ == "__main__":
    sys.exit(main())
