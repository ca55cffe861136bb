"""Policies of several files: together they mean what one file would, and each fault names its file and line."""

import os
from pathlib import Path

import pytest

from authz.adapters.policy_file import including
from authz.adapters.policy_file.loader import load_files, load_policy, row_lines
from authz.adapters.policy_file.yaml import rendered
from authz.core.errors import PolicyError

HEAD = """\
version: 2
api: {name: shop, domain: shop.example}
keys: {header: x-api-key, prefix: shop_, active_max: 5}
limit: {capacity: 100, refill_per_s: 1}
"""
SCOPES = "scopes:\n  a: {description: A}\n"
ROWS = "routes:\n  - scope: a\n    match: GET /a\n"
MORE = "  - scope: b\n    match: [GET /b, GET /b/c]\n"


def write(folder: Path, **texts: str) -> Path:
    for name, text in texts.items():
        path = folder / f"{name.replace('__', '/')}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "policy.yaml"


def fault(path: Path) -> str:
    with pytest.raises(PolicyError) as raised:
        load_policy(path)
    return rendered(raised.value)


def test_several_files_mean_what_one_does(folder: Path) -> None:
    path = write(
        folder,
        policy=f"{HEAD}include: [rows/b.yaml]\n{SCOPES}{ROWS}",
        rows__b="include: [../scopes.yaml]\nroutes:\n" + MORE,
        scopes="scopes:\n  b: {description: B}\n",
        one=f"{HEAD}{SCOPES}  b: {{description: B}}\n{ROWS}{MORE}",
    )
    loaded, one = load_files(path), load_policy(folder / "one.yaml")
    assert loaded.policy.digest == one.digest
    assert [(it.method, it.template, it.scope) for it in loaded.policy.routes] == [
        (it.method, it.template, it.scope) for it in one.routes
    ]
    assert [it.name for it, _ in loaded.seen] == ["policy.yaml", "b.yaml", "scopes.yaml"]
    assert sorted(row_lines(path).values()) == [f"{path}:10", *[f"{folder / 'rows' / 'b.yaml'}:4"] * 2]


def test_the_digest_covers_every_file(folder: Path) -> None:
    path = write(folder, policy=f"{HEAD}include: [b.yaml]\n{SCOPES}", b=ROWS)
    before = load_policy(path).digest
    write(folder, b=ROWS.replace("GET /a", "GET /b"))
    assert load_policy(path).digest != before


@pytest.mark.parametrize(
    ("included", "message"),
    [
        ("routes: [", "b.yaml:1:10: not YAML"),
        ("limit: {capacity: 1, refill_per_s: 1}\n", "b.yaml:1:1: unknown field limit"),
        ("routes:\n  - scope: nowhere\n    match: GET /b\n", "b.yaml:3:12: the scope nowhere is not declared"),
        ("routes:\n  - scope: a\n    match: GET /a\n", "b.yaml:3:12: the same requests as GET /a"),
        ("routes:\n  - scope: a\n    matches: GET /b\n", "b.yaml:3:5: unknown field matches; did you mean match?"),
        ("scopes:\n  a: {description: A}\n", "b.yaml:2:3: a is declared in"),
        ("include: [policy.yaml]\n", "b.yaml:1:11: policy.yaml includes itself"),
        ("include: [./b.yaml]\n", "b.yaml:1:11: ./b.yaml includes itself"),
        ("include: [gone.yaml]\n", "gone.yaml cannot be read: no such file"),
        ("include: [c.yaml, c.yaml]\n", "b.yaml:1:19: c.yaml is included already"),
        ("include: [link.yaml, c.yaml]\n", "b.yaml:1:22: c.yaml is included already"),
        ("include: [../other.yaml]\n", "b.yaml:1:11: ../other.yaml is outside"),
        ("include: [/etc/passwd]\n", "b.yaml:1:11: /etc/passwd is outside"),
        ("include: [out.yaml]\n", "b.yaml:1:11: out.yaml leads outside"),
        ("include: [cycle.yaml]\n", "b.yaml:1:11:"),
        ("include: [folder.yaml]\n", "folder.yaml is no file"),
        ("include: [pipe.yaml]\n", "pipe.yaml is no file"),
        ("include: c.yaml\n", "b.yaml:1:1: include must be a list"),
        ('include: ["c\\0.yaml"]\n', "b.yaml:1:11:"),
        ("include: [binary.yaml]\n", "binary.yaml:0:0: cannot be read"),
        ("", "b.yaml:1:1: the file is empty"),
    ],
)
def test_a_fault_names_its_file_and_line(folder: Path, included: str, message: str) -> None:
    inner = folder / "inner"
    path = write(
        inner, policy=f"{HEAD}include: [b.yaml]\n{SCOPES}{ROWS}", b=included, c="scopes:\n  c: {description: C}\n"
    )
    write(folder, other="routes: []\n")
    (inner / "out.yaml").symlink_to(folder / "other.yaml")
    (inner / "link.yaml").symlink_to("c.yaml")
    (inner / "cycle.yaml").symlink_to("cycle.yaml")
    (inner / "folder.yaml").mkdir()
    (inner / "binary.yaml").write_bytes(b"\xff\xfe")
    os.mkfifo(inner / "pipe.yaml")
    assert message in fault(path)
    assert str(inner) in fault(path)


def test_a_fault_of_the_whole_is_one_of_the_first_file(folder: Path) -> None:
    path = write(folder, policy=f"{HEAD}include: [b.yaml]\n{SCOPES}", b="scopes:\n  b: {description: B}\n")
    assert fault(path) == f"{path}:1:1: routes is missing"
    path = write(folder, policy=f"{HEAD}include: [b.yaml]\n{SCOPES}".replace("version: 2", "version: 1"), b=ROWS)
    assert fault(path) == f"{path}:5:1: include needs version: 2"


def test_files_bytes_and_depth_are_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"f{number}.yaml" for number in range(including.FILES_MAX)]
    path = write(
        folder,
        policy=f"{HEAD}include: [{', '.join(names)}]\n{SCOPES}{ROWS}",
        **{name.removesuffix(".yaml"): "scopes: {}\n" for name in names},
    )
    assert "one file too many" in fault(path)
    chain = {f"c{number}": f"include: [c{number + 1}.yaml]\n" for number in range(including.DEPTH_MAX + 1)}
    path = write(folder, policy=f"{HEAD}include: [c0.yaml]\n{SCOPES}{ROWS}", **chain)
    assert "by a chain of 8 files" in fault(path)
    monkeypatch.setattr(including, "BYTES_MAX", 400)
    path = write(folder, policy=f"{HEAD}include: [b.yaml]\n{SCOPES}{ROWS}", b="# " + "x" * 400)
    assert f"{folder / 'b.yaml'}:1:1: the files of a policy have too many bytes" in fault(path)


def test_hosts_of_a_file_are_those_of_its_groups(folder: Path) -> None:
    path = write(
        folder,
        policy=f"{HEAD}include: [b.yaml]\nhosts: a.example\n{SCOPES}{ROWS}",
        b="hosts: b.example\nroutes:\n  - {scope: a, match: GET /b}\n  - {scope: a, match: GET /c, hosts: c.example}\n"
        "  - {access: barred, match: '* /d'}\n",
    )
    hosts = {it.template: it.hosts for it in load_policy(path).routes}
    assert hosts == {"/a": ("a.example",), "/b": ("b.example",), "/c": ("c.example",), "/d": ()}
