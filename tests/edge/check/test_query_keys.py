"""Keys in the query: a policy that accepts none does nothing for them, and one that does removes them."""

from dataclasses import replace

import pytest
from support.builders import KEY, KEYS, policy
from typer.testing import CliRunner

from authz._pb.base_pb2 import HeaderMap, HeaderValue
from authz._pb.check_pb2 import CheckRequest, CheckResponse
from authz.cli.app import app
from authz.core.check import Allow, Deny
from authz.core.decision import plan
from authz.core.envoy_rules.needs import Deadlines, needs_of
from authz.core.errors import DenyReason
from authz.core.policy.policy import Policy
from authz.core.policy.route import Access, Route
from authz.edge.check.attributes import AttributesReader
from authz.edge.check.codec import encode
from authz.edge.check.readers import reader_of
from authz.edge.check.responses import ResponseWriter, writer_of

PUBLIC = Route("GET", "/p", Access.PUBLIC)
KEYED = Route("GET", "/k", Access.ANY)


def accepting() -> Policy:
    return replace(policy(PUBLIC, KEYED), keys=replace(KEYS, query_parameter="api_key"))


def request(target: str, *headers: tuple[str, str]) -> CheckRequest:
    sent = CheckRequest()
    sent.attributes.request.http.method, sent.attributes.request.http.path = "GET", target
    found = HeaderMap(headers=[HeaderValue(key=name, raw_value=value.encode()) for name, value in headers])
    sent.attributes.request.http.header_map = found.SerializeToString()
    return sent


def test_policies_without_it_have_the_plain_reader_and_writer() -> None:
    assert type(reader_of(policy())) is AttributesReader
    assert type(writer_of(policy())) is ResponseWriter


def test_the_key_leaves_the_target_and_every_repr() -> None:
    attributes = reader_of(accepting()).read(request(f"/k?a=1&api_key={KEY}&b=2"))
    assert (attributes.api_keys, attributes.target, attributes.key_in_query) == ((KEY.encode(),), "/k?a=1&b=2", True)
    assert KEY not in repr(plan(accepting(), attributes))
    assert "_key" not in attributes.target


def test_a_header_decides_before_the_query() -> None:
    attributes = reader_of(accepting()).read(request(f"/k?api_key={KEY}", ("x-api-key", "wrong")))
    assert attributes.api_keys == (b"wrong",)
    assert attributes.key_in_query


@pytest.mark.parametrize("path", ["/p", "/k", "/nowhere"])
def test_an_ambiguous_parameter_is_refused_on_every_row(path: str) -> None:
    attributes = reader_of(accepting()).read(request(f"{path}?api_key={KEY}&API_KEY={KEY}"))
    planned = plan(accepting(), attributes)
    assert isinstance(planned, Deny)
    assert planned.reason is DenyReason.PARAMETER_AMBIGUOUS
    assert KEY not in attributes.target


@pytest.mark.parametrize("target", ["/p", "/p?a=1", f"/p?api_key={KEY}"])
def test_only_a_request_with_the_parameter_has_it_removed(target: str) -> None:
    loaded = accepting()
    attributes = reader_of(loaded).read(request(target))
    written = CheckResponse.FromString(writer_of(loaded).write(attributes, Allow(PUBLIC)))
    assert written == encode(loaded, attributes, Allow(PUBLIC))
    assert list(written.ok_response.query_parameters_to_remove) == (["api_key"] if "key" in target else [])


def test_lint_warns_of_it_and_envoy_must_not_log_queries(folder: str) -> None:
    text = "version: 2\napi: {name: a, domain: a.b}\nkeys: {header: x-api-key, prefix: a_, active_max: 1{}}\n"
    text += "limit: {capacity: 1, refill_per_s: 1}\nscopes: {}\nroutes:\n  - {access: any, match: GET /a}\n"
    file = f"{folder}/policy.yaml"
    for query, count in ((", query: {parameter: api_key, exposure: accepted}", 1), ("", 0)):
        with open(file, "w") as opened:  # noqa: PTH123 -- a text
            opened.write(text.replace("{}}\nlimit", query + "}\nlimit"))
        result = CliRunner().invoke(app, ["policy", "lint", file])
        assert result.exit_code == 0, result.output
        assert result.output.count("warning: keys in the query parameter") == count
    assert needs_of(accepting(), Deadlines()).key_in_query
