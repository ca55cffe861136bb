"""Templates of refusals: checked when they are made, and no value leaves the place that the template gives it."""

import json
from html import unescape
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.core.bodies.template import BYTES_MAX, FIELDS, ErrorTemplate, TemplateFaultError, shown_id

JSON = "application/json"
texts = st.text(max_size=30)


def values(text: str, wait_s: int | None = None) -> dict[str, str | int | None]:
    return dict.fromkeys(FIELDS, text) | {"status": 429, "code": 8, "retry_after_s": wait_s}


@given(text=texts, wait_s=st.none() | st.integers(0, 2**31))
def test_a_value_is_one_value_of_json_wherever_it_stands(text: str, wait_s: int | None) -> None:
    body = '{"e":{"m":${message},"t":"at ${request_id}!","s":${status},"w":${retry_after_s},"v":"${retry_after_s}",'
    body += '"$$":[]}}'
    found = json.loads(ErrorTemplate(JSON, body).render(values(text, wait_s)))["e"]
    waits = "" if wait_s is None else str(wait_s)
    assert found == {"m": text, "t": f"at {text}!", "s": 429, "w": wait_s, "v": waits, "$": []}


@given(text=texts)
def test_a_value_is_text_of_markup(text: str) -> None:
    body = '<e m="${message}"><t>${message}</t></e>'
    root = ET.fromstring(ErrorTemplate("application/xml", body).render(values(text)))  # noqa: S314 -- our own
    assert [child.tag for child in root] == ["t"]
    assert (root[0].text or "").replace("\r", "\n").split() == root.attrib["m"].split()
    html = ErrorTemplate("text/html; charset=utf-8", "<p>${message}</p>").render(values(text))
    assert html.count("<") == html.count(">") == 2
    assert len(unescape(html)) == len(text) + 7 or not text.isprintable()


@given(text=texts)
def test_plain_text_has_no_line_of_a_value(text: str) -> None:
    found = ErrorTemplate("text/plain", "a\n${message}\nb").render(values(text))
    assert len(found.splitlines()) == 3 or not text


@pytest.mark.parametrize(
    ("content_type", "body", "fault"),
    [
        (JSON, '{"a": ${nothing}}', "unknown field nothing: there are code, documentation_url"),
        (JSON, '{"a": ${Message}}', "unknown field Message"),
        (JSON, '{"a": ${}}', "unknown field"),
        (JSON, '{"a": $message}', "written $$"),
        (JSON, '{"a": "${message"}', "unknown field message"),
        (JSON, '{"a": 1', "not JSON"),
        (JSON, "plain ${message}", "not JSON"),
        (JSON, '{"a": ${message}x}', "not JSON"),
        (JSON, '{"a": -${message}}', "not JSON"),
        (JSON, '{"a": NaN}', "not JSON: NaN"),
        (JSON, '{"a": "\\${message}"}', "behind a backslash"),
        (JSON, '{"a": "\\u${message}"}', "not JSON"),
        (JSON, '{"a": "x\ny"}', "not JSON"),
        (JSON, "{${status}: 1}", "not JSON"),
        (JSON, "[" * 5000 + "]" * 0, "not JSON"),
        (JSON, "", "not JSON"),
        ("application/problem+json", "{", "not JSON"),
        (JSON, '"' + "x" * BYTES_MAX + '"', "more than 8,192 bytes"),
        ("text/plain", "\u00fc" * 4097, "more than 8,192 bytes"),
        ("text/html", "<script>x('${message}')</script>", "script"),
        ("text/html", "<!-- ${message} -->", "comment"),
        ("application/xml", "<![CDATA[${message}]]>", "comment"),
        ("application/x-www-form-urlencoded", "a=${message}", "no content type with known escapes"),
        ("image/svg", "${message}", "no content type with known escapes"),
    ],
)
def test_a_template_with_a_fault_is_not_made(content_type: str, body: str, fault: str) -> None:
    with pytest.raises(TemplateFaultError, match="(?s)" + fault.replace("$", r"\$")):
        ErrorTemplate(content_type, body)


def test_a_request_id_is_shown_without_what_means_something_anywhere() -> None:
    assert shown_id("0f1e-22_a.b~c:d") == "0f1e-22_a.b~c:d"
    assert shown_id('"><script>${x}%0a\r\n\\') == "scriptx0a"
    assert len(shown_id("a" * 100_000)) == 128
