"""No input costs more than a millisecond, and none costs more than linear time: a short search from a fixed seed.

`make worst-case` is the long one, and includes the HTTP/2 layer.
"""

from collections.abc import Callable

import pytest
from longrun.worst_case import SLOPE_MAX, US_MAX, Input, measure, worst_cases
from support.parsers import PARSERS, Parser

OF_CHECKS = [parser for parser in PARSERS if not parser.name.startswith("HTTP/2")]

# Inputs that once cost much: what is decoded, split or folded name by name, or computed digit by digit.
KNOWN = {
    "path": [b"%cc%81", b"%e2%84%80", b"a%3A/", b":", b"%", b"a/"],
    "gRPC path": [b".", b"a.", b"truetick.admin."],
    "bound path": [b"%cc%81", b"%f0%9f%98%80"],
    "bound query": [
        b"%&",
        b"account_id;",
        b"&account_idx%c3%a9",
        b"%61",
        b"[account_idid=&",
        b"&=%cc%81",
        b"\\",
        b"[.[",
        b"&xaccountidx" + b"[a" * 60,
        b"&xaccountidx" + b"%5ba" * 28,
        b"&xaccountidx" + b"%255ba" * 18,
    ],
    "bound query of 60 KiB": [b"%&", b"&", b"%61", b"%zz_method"],
    "public query": [b"%&", b"%26", b"%26;", b"_m&"],
    "other query": [b"%&", b"&_method", b"%26", b"\\", b"%zz", b"%5F", b"&+_methodx"],
    "array in a body": [
        b"[],",
        b"{},",
        b"0,",
        b"1e9,",
        b"1e-300,",
        b'{"a":0},',
        b'"\\u0041",',
        b"[[",
        b"99999",
        b'"",',
    ],
    "names in a body": [
        b'"a":0,',
        b'"\\u00e9":0,',
        b'"account":{},',
        b'"accountidx[":0,',
        b'"accountId":"a",',
        b'"xaccountidx' + b".a" * 115 + b'":0,',
        b'"x' + b"accountid" * 110 + b'x":0,',
        b'"accounti":{' + b",".join(b'"%d":0' % number for number in range(230)) + b"},",
    ],
    "key": [b"a"],
    "header map": [b"a:b\n", b"x_y:\n", b":"],
    "headers as text": [b"a:b\n"],
    "decision log line": [b"ttk_0", b"\xff", b"0" * 48 + b"!"],
}
CASES = [(parser, unit) for parser in OF_CHECKS for unit in KNOWN.get(parser.name, ())]


@pytest.mark.timed
@pytest.mark.parametrize(("parser", "unit"), CASES, ids=[f"{parser.name} {unit!r}" for parser, unit in CASES])
def test_a_known_bad_input_costs_less_than_a_millisecond_and_linear_time(parser: Parser, unit: bytes) -> None:
    finding = measure(parser, Input((), (unit,), ()))
    assert finding.us < US_MAX, finding.row()
    assert not finding.is_bad, finding.row()
    assert SLOPE_MAX < 4  # a quadratic cost would not pass


@pytest.mark.timed
def test_a_quadratic_cost_is_found() -> None:
    def prepare(text: bytes) -> Callable[[], None]:
        def run() -> None:
            for start in range(0, len(text), 16):
                text.count(b"%", start)

        return run

    finding = measure(Parser("quadratic", 8_192, (b"%",), prepare), Input((), (b"%",), ()))
    assert finding.is_bad, finding.row()
    assert finding.slope > SLOPE_MAX, finding.row()


@pytest.mark.timed
@pytest.mark.timeout(60)
def test_a_short_search_finds_no_worse_input() -> None:
    found = worst_cases(seconds=10, seed=1, rounds=25, parsers=OF_CHECKS)
    assert [it.row() for it in found if it.is_bad] == []
