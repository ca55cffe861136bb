"""Descriptor sets, as protoc writes them: a row for each gRPC method and for each of its HTTP bindings."""

from pathlib import Path

import pytest
from grpc_tools import protoc

from authz.adapters.api_files.descriptors import described
from authz.core.errors import PolicyError
from authz.core.imports.rows import imported
from authz.core.imports.scopes import ScopeBy

HTTP = """
syntax = "proto3";
package google.api;
import "google/protobuf/descriptor.proto";
extend google.protobuf.MethodOptions { HttpRule http = 72295728; }
message HttpRule {
  string selector = 1;
  oneof pattern {
    string get = 2; string put = 3; string post = 4; string delete = 5; string patch = 6; Custom custom = 8;
  }
  string body = 7;
  string response_body = 12;
  repeated HttpRule additional_bindings = 11;
}
message Custom { string kind = 1; string path = 2; }
"""
LIBRARY = """
syntax = "proto3";
package acme.library.v1;
import "http.proto";
message Empty {}
service Library {
  rpc GetBook(Empty) returns (Empty) {
    option (google.api.http) = {
      get: "/v1/{name=shelves/*/books/*}"
      additional_bindings { get: "/v1/books/{id}" }
      additional_bindings { post: "/v1/books:get" body: "*" }
    };
  }
  rpc DeleteBook(Empty) returns (Empty) { option (google.api.http) = { delete: "/v1/{name=shelves/**}" }; }
  rpc WatchBooks(Empty) returns (stream Empty) { option deprecated = true; }
  rpc Odd(Empty) returns (Empty) { option (google.api.http) = { custom { kind: "HEAD" path: "/v1/a/**/b" } }; }
}
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("protos")
    (folder / "http.proto").write_text(HTTP)
    (folder / "library.proto").write_text(LIBRARY)
    wellknown = Path(protoc.__file__).parent / "_proto"
    made = folder / "set.binpb"
    arguments = ["protoc", f"-I{folder}", f"-I{wellknown}", "--include_imports", f"--descriptor_set_out={made}"]
    assert protoc.main([*arguments, "library.proto"]) == 0
    return made.read_bytes()


def test_each_method_and_each_binding_has_a_row(library: bytes) -> None:
    found = imported(described(library), ScopeBy.TAG)
    assert {row.match: row.scope for row in found.rows} == {
        "/acme.library.v1.Library/GetBook": "library:read",
        "GET /v1/{name=shelves/*/books/*}": "library:read",
        "GET /v1/books/{id}": "library:read",
        "POST /v1/books:get": "library:write",
        "/acme.library.v1.Library/DeleteBook": "library:write",
        "DELETE /v1/{name=shelves/**}": "library:write",
        "/acme.library.v1.Library/WatchBooks": "library:read",
        "/acme.library.v1.Library/Odd": "library:read",
        "HEAD /v1/a/**": "library:read",
    }
    assert found.omitted == []


def test_doubts_are_remarks(library: bytes) -> None:
    remarks = {row.match: row.remarks for row in imported(described(library), ScopeBy.TAG).rows}
    assert remarks["/acme.library.v1.Library/WatchBooks"] == [
        "deprecated in the description",
        "suggestion: stream: CLASS in a group of its own, for the response stays open",
    ]
    assert remarks["HEAD /v1/a/**"][0].startswith("widened: /v1/a/**/b")


@pytest.mark.parametrize("data", [b"\xff" * 20, b"{}", b"openapi: 3"])
def test_what_is_no_descriptor_set_is_refused(data: bytes) -> None:
    with pytest.raises(PolicyError, match="no FileDescriptorSet"):
        described(data)
