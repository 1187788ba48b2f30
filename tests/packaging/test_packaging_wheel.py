"""The wheel as users get it: the client alone, the generated code, both protobuf majors."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
import zipfile

import pytest

CLIENT_ONLY = """
import sys
import trunkline
heavy = {"torch", "onnxruntime", "lance", "faiss", "PIL", "sklearn", "pandas", "click", "onnx"} & set(sys.modules)
assert not heavy, heavy
assert not [name for name in sys.modules if "open_inference" in name]
from trunkline_protos.v1 import embedding_pb2, search_pb2_grpc
import google.protobuf
assert google.protobuf.__version__.startswith(sys.argv[1]), google.protobuf.__version__
message = embedding_pb2.EmbedRequest(model="m")
assert embedding_pb2.EmbedRequest.FromString(message.SerializeToString()).model == "m"
client = trunkline.Client("127.0.0.1:1", retries=0, timeout=2)
try:
    client.embed([b"x"])
except trunkline.TrunklineError as error:
    print("refused:", type(error).__name__)
else:
    raise SystemExit("nobody listens there")
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory, repository):
    target = tmp_path_factory.mktemp("wheel")
    built = sorted((repository / "dist").glob("*.whl"))
    if built:
        return built[0]
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        target,
        repository,
    ]
    subprocess.run(command, check=True)
    return next(target.glob("*.whl"))


def test_generated_code_and_the_bundled_model_are_in_the_wheel(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for stem in ("common", "embedding", "models", "collections", "heads", "search"):
        assert f"trunkline_protos/v1/{stem}_pb2.py" in names
        assert f"trunkline_protos/v1/{stem}_pb2.pyi" in names
        assert f"trunkline_protos/v1/{stem}.proto" in names
    assert "trunkline/py.typed" in names
    model = "trunkline_service/models/bundled/trunkline-small/1"
    assert {f"{model}/model.onnx", f"{model}/card.json"} <= names
    assert zipfile.ZipFile(wheel).getinfo(f"{model}/model.onnx").file_size <= 8_400_000
    assert not [name for name in names if name.startswith(("tests", "."))]


KERNEL_CALL = """
import ctypes, sys
kernel = ctypes.CDLL(sys.argv[1]).trunkline_resample_1
pixels, out = (ctypes.c_ubyte * 12)(*[7] * 12), (ctypes.c_ubyte * 3)()
box, size, window = (ctypes.c_float * 4)(0, 0, 2, 2), (ctypes.c_int64 * 2)(1, 1), (ctypes.c_int64 * 4)(0, 0, 1, 1)
long = ctypes.c_int64
assert kernel(pixels, long(2), long(2), box, 1, size, window, 0, 0, out, long(3)) == 0
assert list(out) == [7, 7, 7], list(out)
"""


@pytest.mark.skipif(
    platform.system() != "Linux" or platform.machine() not in ("x86_64", "aarch64"),
    reason="the kernel is compiled for Linux on x86-64 and arm64",
)
def test_the_compiled_kernel_is_in_the_wheel_and_its_source_is_not(wheel, tmp_path):
    folder = "trunkline_service/images/native"
    with zipfile.ZipFile(wheel) as archive:
        assert [name for name in archive.namelist() if name.startswith(folder)] == [f"{folder}/resample.so"]
        library = archive.extract(f"{folder}/resample.so", tmp_path)
    assert re.search(rf"-py3-none-(manylinux_2_17|linux)_{platform.machine()}\.whl$", wheel.name)
    subprocess.run([sys.executable, "-c", KERNEL_CALL, library], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("protobuf", ["6", "7"])
def test_the_client_alone_installs_imports_and_names_the_missing_extra(wheel, tmp_path, protobuf):
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, str(wheel), f"protobuf=={protobuf}.*"], check=True)
    done = subprocess.run(
        [python, "-W", "error", "-c", CLIENT_ONLY, protobuf], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "refused" in done.stdout
    script = subprocess.run(
        [python.with_name("trunkline"), "--help"], capture_output=True, text=True, check=False
    )
    assert script.returncode == 1
    assert "pip install 'trunkline[server]'" in script.stderr
    assert "Traceback" not in script.stderr
    opened = subprocess.run(
        [python, "-c", "import trunkline; trunkline.open()"], capture_output=True, text=True, check=False
    )
    assert "trunkline[server]" in opened.stderr
