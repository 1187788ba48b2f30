"""What `import trunkline` gives and costs; that both clients are one."""

from __future__ import annotations

import importlib
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

import trunkline

HEAVY = ["torch", "onnxruntime", "lance", "PIL", "pandas", "sklearn", "faiss", "pyarrow", "trunkline_service"]
PACKAGE = Path(trunkline.__file__).parent


def test_the_import_is_light():
    code = "import trunkline, sys, json; print(json.dumps(sorted(sys.modules)))"
    path = ":".join(entry for entry in sys.path if entry)
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    modules = set(json.loads(run.stdout))
    assert "trunkline.client" in modules
    assert modules.isdisjoint(HEAVY)
    ours = {name for name in modules if name.startswith("trunkline_protos.")}
    assert all(name.startswith("trunkline_protos.v1") for name in ours)


def test_every_module_imports_only_the_base_dependencies():
    allowed = {"trunkline", "trunkline_protos", "grpc", "numpy", "google", "PIL", "pandas"}
    for path in PACKAGE.rglob("*.py"):
        for line in path.read_text().splitlines():
            words = line.split()
            if words[:1] in (["import"], ["from"]) and "." not in words[1][:1]:
                root = words[1].split(".")[0].rstrip(",")
                assert root in allowed or root in sys.stdlib_module_names, f"{path}: {line}"


def test_types_are_shipped():
    assert (PACKAGE / "py.typed").is_file()


def test_every_public_name_exists_and_is_documented():
    assert trunkline.__all__ == sorted(trunkline.__all__, key=lambda n: (not n.isupper(), n.islower(), n))
    for name in trunkline.__all__:
        assert inspect.getdoc(getattr(trunkline, name)), name


@pytest.mark.parametrize("kind", [trunkline.Client, trunkline.AsyncClient])
def test_every_method_is_documented(kind):
    for name, method in public(kind).items():
        assert inspect.getdoc(method), name


def public(kind: type) -> dict[str, object]:
    """Methods of the class and of what it is made of."""
    found = {name: value for part in reversed(kind.__mro__[:-1]) for name, value in vars(part).items()}
    return {name: value for name, value in found.items() if not name.startswith("_")}


def test_both_clients_take_the_same_arguments():
    sync, aio = public(trunkline.Client), public(trunkline.AsyncClient)
    assert sync.keys() == aio.keys()
    for name in [*sync, "__init__"]:
        ours = inspect.signature(getattr(trunkline.Client, name)).parameters.values()
        theirs = inspect.signature(getattr(trunkline.AsyncClient, name)).parameters.values()
        assert [(p.name, p.kind, p.default) for p in ours] == [(p.name, p.kind, p.default) for p in theirs]


def test_what_is_about_collections_is_there():
    for name in ("upsert", "upsert_rows", "rows", "scan", "relabel", "delete", "restore", "set_alias"):
        assert name in public(trunkline.Client)


def test_both_clients_give_one_answer(fake, tmp_path):
    import asyncio

    import numpy as np

    images = [b"a", tmp_path / "missing", b"bad", b"d", 7, b"f"]

    async def awaited() -> list[object]:
        async with trunkline.AsyncClient(fake.target, chunk_images=2) as client:
            return [
                await client.embed(images),
                await client.predict(images, head="h"),
                await client.search("flowers", images),
                await client.add("flowers", images),
                await client.models(),
            ]

    with trunkline.Client(fake.target, chunk_images=2) as client:
        here = [
            client.embed(images),
            client.predict(images, head="h"),
            client.search("flowers", images),
            client.add("flowers", images),
            client.models(),
        ]
    there = asyncio.run(awaited())
    assert here[-1] == there[-1]
    for ours, theirs in zip(here[:-1], there[:-1], strict=True):
        assert type(ours) is type(theirs)
        for name, value in vars(ours).items():
            # A collection's version counts the writes of both.
            if name != "version":
                np.testing.assert_equal(value, vars(theirs)[name])


@pytest.mark.parametrize("kind", [trunkline.Client, trunkline.AsyncClient])
@pytest.mark.parametrize(
    ("target", "options", "words"),
    [
        ("localhost", {}, "needs a port"),
        ("", {}, "needs a port"),
        ("http://localhost:50051", {}, "leave the scheme out"),
        ("localhost:1", {"channels": 0}, "channels"),
        ("localhost:1", {"timeout": 0}, "timeout"),
        ("localhost:1", {"max_in_flight": 0}, "max_in_flight"),
        ("localhost:1", {"chunk_images": 0}, "chunk_images"),
        ("localhost:1", {"chunk_bytes": -1}, "chunk_bytes"),
        ("localhost:1", {"retries": -1}, "retries"),
    ],
)
def test_options_out_of_range_are_refused(kind, target, options, words):
    with pytest.raises(ValueError, match=words):
        kind(target, **options)


def test_every_private_module_says_what_it_is_for():
    for path in PACKAGE.rglob("*.py"):
        name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        assert importlib.import_module(name).__doc__, name
