"""Which compiler makes the kernel, and what becomes of the wheel where none does."""

from __future__ import annotations

import importlib.util
import sys

import pytest

pytest.importorskip("hatchling", reason="`make protos` installs the build backend")


@pytest.fixture
def build(repository, monkeypatch):
    """hatch_build.py, as on Linux on x86-64 with glibc."""
    spec = importlib.util.spec_from_file_location("hatch_build", repository / "hatch_build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.delenv("TRUNKLINE_CC", raising=False)
    monkeypatch.setattr(module.platform, "system", lambda: "Linux")
    monkeypatch.setattr(module.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(module.platform, "libc_ver", lambda: ("glibc", "2.36"))
    monkeypatch.setattr(module.shutil, "which", lambda name: f"/bin/{name}" if name == "gcc" else None)
    return module


@pytest.fixture
def without(build, monkeypatch):
    """As `build`, on a machine without a compiler."""
    monkeypatch.setattr(build.shutil, "which", lambda name: None)
    return build


def test_the_machines_own_compiler_comes_before_that_of_pip(build):
    own, pips = build.compilers()
    assert own == ("gcc",)
    assert pips[:4] == (sys.executable, "-m", "ziglang", "cc")
    assert pips[-1] == "x86_64-linux-gnu.2.17"


def test_without_a_compiler_only_pips_is_tried_and_is_asked_for(without):
    (only,) = without.compilers()
    assert without.is_ziglang(only)
    assert without.needs_ziglang()


def test_a_compiler_that_fails_is_as_none(build, monkeypatch, tmp_path, capfd):
    monkeypatch.setattr(build.shutil, "which", lambda name: "false" if name == "cc" else None)
    assert not build.compile_with(("false",), tmp_path / "kernel.so")
    assert not (tmp_path / "kernel.so").exists()
    assert "false did not compile" in capfd.readouterr().err
    monkeypatch.setattr(build, "compile_with", lambda compiler, target: False)
    assert build.needs_ziglang()


def test_a_compiler_that_works_needs_no_other(build, monkeypatch):
    monkeypatch.setattr(build, "compile_with", lambda compiler, target: True)
    assert not build.needs_ziglang()


@pytest.mark.parametrize(
    ("system", "machine", "libc"),
    [("Windows", "AMD64", ""), ("Darwin", "arm64", ""), ("Linux", "riscv64", "glibc")],
)
def test_other_machines_get_a_wheel_without_the_kernel(without, monkeypatch, system, machine, libc, tmp_path):
    monkeypatch.setattr(without.platform, "system", lambda: system)
    monkeypatch.setattr(without.platform, "machine", lambda: machine)
    stale = tmp_path / "kernel.so"
    stale.write_bytes(b"of earlier sources")
    assert without.compile_kernel(stale) is None
    assert not stale.exists()
    assert not without.needs_ziglang()


def test_pips_compiler_is_not_for_another_libc(without, monkeypatch):
    monkeypatch.setattr(without.platform, "libc_ver", lambda: ("", ""))
    assert without.compilers() == []


@pytest.mark.parametrize(
    ("asked", "expected"), [("none", []), ("clang-18 -static-libgcc", [("clang-18", "-static-libgcc")])]
)
def test_the_environment_decides(build, monkeypatch, asked, expected):
    monkeypatch.setenv("TRUNKLINE_CC", asked)
    assert build.compilers() == expected


def test_a_compiler_that_was_asked_for_must_work(build, monkeypatch, tmp_path):
    monkeypatch.setenv("TRUNKLINE_CC", "false")
    with pytest.raises(RuntimeError, match="TRUNKLINE_CC"):
        build.compile_kernel(tmp_path / "kernel.so")


@pytest.mark.parametrize(
    ("compiler", "tag"), [(("gcc",), "linux_x86_64"), (("-m", "ziglang"), "manylinux_2_17_x86_64")]
)
def test_the_tag_says_what_the_library_needs(build, monkeypatch, tmp_path, compiler, tag):
    monkeypatch.setattr(build, "compilers", lambda: [compiler])
    monkeypatch.setattr(build, "find_spec", lambda name: object())
    monkeypatch.setattr(build, "compile_with", lambda compiler, target: True)
    assert build.compile_kernel(tmp_path / "kernel.so") == tag
