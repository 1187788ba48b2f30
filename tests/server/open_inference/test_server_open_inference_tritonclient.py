"""Beside tritonclient, which can't be loaded into a process that has our definitions."""

from __future__ import annotations

import json
import subprocess
import sys

from trunkline_protos.open_inference import inference_pb2, model_config_pb2

_SHAPES = """
import json, sys
from google.protobuf import descriptor_pb2

def shapes(files):
    found = {}
    def walk(prefix, message):
        name = f"{prefix}.{message.name}"
        for field in message.field:
            oneof = message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else ""
            found[f"{name}.{field.name}"] = [field.number, field.type, field.label, field.type_name, oneof]
        for nested in message.nested_type:
            walk(name, nested)
        for kind in message.enum_type:
            enum(name, kind)
    def enum(prefix, kind):
        found.update({f"{prefix}.{kind.name}.{value.name}": value.number for value in kind.value})
    for file in files:
        for message in file.message_type:
            walk(file.package, message)
        for kind in file.enum_type:
            enum(file.package, kind)
        for service in file.service:
            for method in service.method:
                found[f"{service.name}/{method.name}"] = [
                    method.input_type, method.output_type, method.client_streaming, method.server_streaming
                ]
    return found

def of(*modules):
    files = []
    for module in modules:
        files.append(descriptor_pb2.FileDescriptorProto())
        module.DESCRIPTOR.CopyToProto(files[-1])
    return shapes(files)
"""


def test_every_name_number_type_and_label_is_tritons():
    names: dict = {}
    exec(_SHAPES, names)
    ours = names["of"](inference_pb2, model_config_pb2)
    assert len(ours) > 100
    code = _SHAPES + (
        "from tritonclient.grpc import service_pb2, model_config_pb2\n"
        "json.dump(of(service_pb2, model_config_pb2), sys.stdout)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    )
    theirs = json.loads(done.stdout)
    assert {name: theirs.get(name) for name in ours} == ours


_NOTEBOOK = """
import sys
import numpy as np
import tritonclient.grpc
import trunkline
client = trunkline.open(models=sys.argv[1], data=sys.argv[2], default_model="tiny")
print(client.embed([np.full((32, 32, 3), 7, np.uint8)]).vectors[0, 0])
client.close()
"""


def test_a_notebook_may_load_tritonclient_too(tmp_path, publish_tiny):
    publish_tiny(tmp_path / "models")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _NOTEBOOK, str(tmp_path / "models"), str(tmp_path / "data")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "7.0", done.stderr
