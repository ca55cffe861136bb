"""A watch of a policy's files: it reads every change that lasts, once, and follows what is included."""

# ruff: noqa: ASYNC240 -- small files of the test itself

import os
from pathlib import Path

import pytest
from support.reloading import CLOSED, FAULTY, TEXT, Process
from support.reloads import publish

from authz.adapters.policy_file import yaml
from authz.adapters.policy_file.loader import load_policy
from authz.adapters.prometheus.process import ReloadOutcome
from authz.core.policy.path import parse

INCLUDING = TEXT.replace("version: 1", "version: 2\ninclude: [more.yaml]")
MORE = "routes:\n  - access: any\n    match: GET /v2/{}\n"


def serves(process: Process, path: str) -> bool:
    target = parse(path)
    assert target is not None
    match = process.reload.policy.router.match("GET", target)
    return match is not None and match.route is not None


@pytest.mark.usefixtures("here")
async def test_a_watch_follows_every_file_that_is_included_now(file: Path) -> None:
    more, deep = file.with_name("more.yaml"), file.parent / "deep" / "deeper.yaml"
    file.write_text(INCLUDING)
    more.write_text(MORE.format("a"))
    process = Process(file)
    await process.watched()
    assert not process.applied
    more.write_text(MORE.format("b"))
    await process.watched()
    assert [serves(process, it) for it in ("/v2/a", "/v2/b")] == [False, True]
    more.write_text("include: [deep/deeper.yaml]\n")
    await process.watched()
    assert process.reload.state()["last_reload"] == "failed"
    deep.parent.mkdir()
    deep.write_text(MORE.format("c"))  # a file that was missing
    await process.watched()
    assert serves(process, "/v2/c")
    deep.write_text(FAULTY)
    await process.watched()
    assert process.reload.state()["last_reload"] == "failed"
    deep.write_text(MORE.format("d"))
    await process.watched()
    assert serves(process, "/v2/d")
    file.write_text(TEXT)
    await process.watched()
    before = len(process.applied)
    deep.write_text(MORE.format("e"))  # no longer included
    for _ in range(3):
        await process.watched()
    assert len(process.applied) == before
    assert process.reload.state()["last_reload"] == "reloaded"


@pytest.mark.usefixtures("here")
async def test_a_config_map_of_several_files_is_never_read_as_a_mixture(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(folder, 0, INCLUDING, more=MORE.format("a"))
    process = Process(folder / "policy.yaml")
    read_text, swaps = yaml.text_of, iter(range(1, 3))

    def swapping(path: Path, bytes_max: int) -> str:
        text = read_text(path, bytes_max)
        if path.name == "policy.yaml" and (number := next(swaps, None)):
            publish(folder, number, TEXT if number == 2 else INCLUDING, more=MORE.format("mixture"))
        return text

    monkeypatch.setattr(yaml, "text_of", swapping)
    result = await process.reload.request()
    assert result.outcome in {ReloadOutcome.RELOADED, ReloadOutcome.UNCHANGED}
    assert not serves(process, "/v2/mixture")
    for _ in range(3):
        await process.watched()
    assert process.reload.policy.digest == load_policy(folder / "policy.yaml").digest


@pytest.mark.usefixtures("here")
async def test_a_watch_reads_a_change_when_it_lasts_and_reads_it_once(file: Path) -> None:
    process = Process(file)
    await process.watched()
    file.write_text(CLOSED)
    await process.reload.examine()
    assert not process.applied
    await process.reload.examine()
    assert len(process.applied) == 1
    file.write_text(FAULTY)
    for _ in range(4):
        await process.watched()
    outcomes = {
        it.labels["outcome"]: it.value
        for family in process.reload.metrics.collect()
        for it in family.samples
        if "outcome" in it.labels
    }
    assert outcomes == {"reloaded": 1, "unchanged": 0, "refused": 0, "failed": 1}


@pytest.mark.usefixtures("here")
async def test_a_watch_sees_a_config_map_that_is_replaced(folder: Path) -> None:
    publish(folder, 0, TEXT)
    process = Process(folder / "policy.yaml")
    for number, (text, outcome) in enumerate(((CLOSED, "reloaded"), (FAULTY, "failed"), (TEXT, "reloaded")), 1):
        publish(folder, number, text)
        await process.watched()
        await process.watched()
        assert process.reload.state()["last_reload"] == outcome
    assert len(process.applied) == 2


@pytest.mark.usefixtures("here")
async def test_a_watch_sees_a_change_that_keeps_size_and_times(file: Path) -> None:
    process = Process(file)
    await process.watched()
    before = file.stat()
    other = file.with_name("new.yaml")
    other.write_text(TEXT.replace("GET /v1/regions", "GET /v1/regionz"))
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.rename(file)
    await process.watched()
    assert len(process.applied) == 1
