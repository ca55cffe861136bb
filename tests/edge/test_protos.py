"""Our messages are Envoy's: every field has the number, the type and the label that the published ones have.

Two fields hold a message that is left unread: bytes here, which are the same on the wire.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FileDescriptor
from grpc_tools import protoc

from authz._pb import access_log_entry_pb2, access_log_pb2, base_pb2, check_pb2, http_status_pb2, rpc_status_pb2

UNREAD = {
    "envoy.service.auth.v3.AttributeContext": {"source"},
    "envoy.service.auth.v3.AttributeContext.HttpRequest": {"header_map"},
}
ROOT = Path(__file__).parents[2]
MODULES = (access_log_entry_pb2, access_log_pb2, base_pb2, check_pb2, http_status_pb2, rpc_status_pb2)
FILES: list[FileDescriptor] = [module.DESCRIPTOR for module in MODULES]

# Runs in a process of its own: the published messages bear the same names as ours, in a package named envoy.
PUBLISHED = """
import json, sys
sys.path.insert(0, sys.argv[1])
from envoy.config.core.v3 import address_pb2, base_pb2
from envoy.service.accesslog.v3 import als_pb2
from envoy.service.auth.v3 import attribute_context_pb2, external_auth_pb2
from envoy.type.v3 import http_status_pb2
from google.protobuf import descriptor_pool
from google.rpc import status_pb2

def fields(name):
    message = descriptor_pool.Default().FindMessageTypeByName(name)
    return {f.name: [f.number, f.type, f.is_repeated, getattr(f.message_type, "full_name", None),
                     getattr(f.enum_type, "full_name", None)] for f in message.fields}

def values(name):
    return {v.name: v.number for v in descriptor_pool.Default().FindEnumTypeByName(name).values}

messages, enums = json.load(sys.stdin)
json.dump([{name: fields(name) for name in messages}, {name: values(name) for name in enums}], sys.stdout)
"""


def messages() -> dict[str, Descriptor]:
    found: dict[str, Descriptor] = {}
    waiting = [message for file in FILES for message in file.message_types_by_name.values()]
    while waiting:
        message = waiting.pop()
        found[message.full_name] = message
        waiting += [nested for nested in message.nested_types if not nested.GetOptions().map_entry]
    return found


def enums() -> dict[str, dict[str, int]]:
    found = [enum for file in FILES for enum in file.enum_types_by_name.values()]
    found += [enum for message in messages().values() for enum in message.enum_types]
    return {enum.full_name: {value.name: value.number for value in enum.values} for enum in found}


@pytest.fixture(scope="module")
def published() -> list[dict[str, dict[str, Any]]]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PUBLISHED, str(Path(sys.prefix) / "xds")],
        input=json.dumps([list(messages()), list(enums())]),
        capture_output=True,
        text=True,
        check=True,
    )
    parsed: list[dict[str, dict[str, Any]]] = json.loads(done.stdout)
    return parsed


def test_every_field_is_envoys(published: list[dict[str, dict[str, Any]]]) -> None:
    assert len(messages()) > 10
    for name, message in messages().items():
        for field in message.fields:
            ours = [
                field.number,
                field.type,
                field.is_repeated,
                getattr(field.message_type, "full_name", None),
                getattr(field.enum_type, "full_name", None),
            ]
            theirs = published[0][name].get(field.name)
            if theirs and field.name in UNREAD.get(name, ()):
                assert (theirs[1], theirs[3] in messages()) == (field.TYPE_MESSAGE, True), f"{name}.{field.name}"
                theirs[1:4] = field.TYPE_BYTES, theirs[2], None
            assert ours == theirs, f"{name}.{field.name}"


def test_every_enum_value_is_envoys(published: list[dict[str, dict[str, Any]]]) -> None:
    for name, values in enums().items():
        assert values.items() <= published[1][name].items(), name


def test_the_compiled_messages_are_those_of_the_proto_files(tmp_path: Path) -> None:
    sources = sorted(str(path) for path in (ROOT / "protos").rglob("*.proto"))
    include = Path(protoc.__file__).parent / "_proto"
    assert protoc.main(["protoc", f"-I{ROOT / 'protos'}", f"-I{include}", f"--python_out={tmp_path}", *sources]) == 0
    for compiled in tmp_path.rglob("*_pb2.py"):
        assert compiled.read_text() == (ROOT / compiled.relative_to(tmp_path)).read_text()
    assert len(list(tmp_path.rglob("*_pb2.py"))) == len(sources)
