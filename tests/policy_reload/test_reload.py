"""Reloads of one process: valid files are used as a whole, all others change nothing, and a watch sees every form."""

# ruff: noqa: ASYNC240 -- small files of the test itself

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.reloads import publish

from authz.adapters.policy_file import yaml
from authz.adapters.policy_file.loader import load_files, load_policy
from authz.adapters.prometheus.process import ReloadOutcome
from authz.core.errors import SettingsError
from authz.core.policy.path import parse
from authz.core.policy.policy import Gate, Policy
from authz.demo.servers import shipped
from authz.policy_reload import release
from authz.policy_reload.child import read
from authz.policy_reload.frames import framed, unframed
from authz.policy_reload.reload import Cause, PolicyReload
from authz.policy_reload.source import PolicySource

TEXT = shipped("policies/truetick.yaml").read_text()
CLOSED = TEXT.replace("      - GET /v1/regions\n", "")
OPENED = TEXT.replace('      - "* /v1/admin/**"\n', "      - '* /v1/admin/x'\n").replace(
    "      - GET /v1/regions\n", "      - GET /v1/regions\n      - GET /v1/admin/{id}\n"
)
FAULTY = "routes: ["


class Process:
    """A reload of one file, with the policies that it applied."""

    def __init__(self, file: Path, gate: Gate = Gate.OFF) -> None:
        self.applied: list[Policy] = []
        self.refuses = ""
        self.reload = PolicyReload(file, load_files, apply=self.applied.append, check=self._check, gate=gate)

    def _check(self, policy: Policy) -> None:
        if policy.api == self.refuses:
            raise SettingsError("does not fit")

    async def watched(self) -> None:
        """Examine the file as often as a change takes to be read."""
        for _ in range(2):
            await self.reload.examine()


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read in this process, which is faster: the child does the same."""
    monkeypatch.setattr(PolicySource, "_run", lambda _source, request: read(request))


@pytest.fixture
def file(folder: Path) -> Path:
    path = folder / "policy.yaml"
    path.write_text(TEXT)
    return path


async def test_each_kind_of_file_has_its_outcome_and_only_a_valid_one_is_used(file: Path) -> None:
    process = Process(file)
    for text, outcome in (
        (TEXT, ReloadOutcome.UNCHANGED),
        (CLOSED, ReloadOutcome.RELOADED),
        (FAULTY, ReloadOutcome.FAILED),
        (f"# a comment\n{CLOSED}", ReloadOutcome.UNCHANGED),
        (TEXT.replace("name: truetick", "name: other"), ReloadOutcome.FAILED),
        (OPENED, ReloadOutcome.RELOADED),
    ):
        process.refuses = "other"
        file.write_text(text)
        before = process.reload.policy
        result = await process.reload.request()
        assert result.outcome is outcome, text[:40]
        assert (process.reload.policy is before) == (outcome is not ReloadOutcome.RELOADED)
        state = process.reload.state()
        assert (state["digest"], state["last_reload"]) == (process.reload.policy.digest, outcome.value)
        assert (state["version"], state["routes"]) == (1, len(process.reload.policy.routes))
        assert datetime.fromisoformat(str(state["loaded"])) <= datetime.now(UTC)
    assert [it.digest for it in process.applied] == [load_policy_of(file, text).digest for text in (CLOSED, OPENED)]
    assert result.effect.opens
    assert any("/v1/admin/" in line and "opens to" in line for line in result.effect.lines)


def load_policy_of(file: Path, text: str) -> Policy:
    other = file.with_name("other.yaml")
    other.write_text(text)
    return load_policy(other)


async def test_a_fault_names_its_line_and_a_missing_file_is_one(file: Path) -> None:
    process = Process(file)
    file.write_text(TEXT.replace("version: 1", "version: 9"))
    fault = (await process.reload.request()).fault
    assert fault.startswith(f"{file}:")
    assert "version" in fault
    file.unlink()
    assert "cannot be read" in (await process.reload.request()).fault
    assert not process.applied


@pytest.mark.usefixtures("here")
async def test_a_gate_refuses_what_opens_unless_the_present_policy_is_acknowledged(file: Path) -> None:
    process = Process(file, Gate.NO_OPENING)
    present = process.reload.policy.digest
    file.write_text(OPENED)
    result = await process.reload.request()
    assert result.outcome is ReloadOutcome.REFUSED
    assert result.effect.opens
    assert (await process.reload.request(Cause.ADMIN, "000000000000")).outcome is ReloadOutcome.REFUSED
    file.write_text(f"acknowledge: [aaaaaaaaaaaa, '{present}']\n{OPENED}")
    assert (await process.reload.request()).outcome is ReloadOutcome.RELOADED
    file.write_text(CLOSED)
    assert (await process.reload.request()).outcome is ReloadOutcome.RELOADED
    closed = process.reload.policy.digest
    file.write_text(TEXT)
    assert (await process.reload.request(Cause.ADMIN, closed)).outcome is ReloadOutcome.RELOADED


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("", "overrides: {headers: strip}\n"),
        ("", "overrides: {query: allow}\n"),
        ("scope: servers:read\n    match:", "scope: servers:read\n    colon_ids: true\n    match:"),
        ("errors: text", "errors: text\n    shadow: true"),
    ],
)
@pytest.mark.usefixtures("here")
async def test_a_gate_knows_openings_that_no_row_shows(file: Path, old: str, new: str) -> None:
    process = Process(file, Gate.NO_OPENING)
    file.write_text(TEXT.replace(old, new) if old else new + TEXT)
    if old and old not in TEXT:
        pytest.fail("the shipped policy has changed")
    assert (await process.reload.request()).outcome is ReloadOutcome.REFUSED


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


@pytest.mark.usefixtures("here")
async def test_requests_during_a_reload_are_followed_by_one_more(file: Path) -> None:
    process = Process(file)
    results = [process.reload.request() for _ in range(2)]
    await asyncio.sleep(0)
    results += [process.reload.request() for _ in range(50)]
    assert {it.outcome for it in await asyncio.gather(*results)} == {ReloadOutcome.UNCHANGED}
    assert len({id(it) for it in results}) == 2


async def test_a_process_that_stops_ends_its_reload(file: Path) -> None:
    process = Process(file)
    file.write_text(CLOSED)
    pending = process.reload.request()
    await asyncio.sleep(0.05)
    async with asyncio.timeout(5):
        await process.reload.close()
    assert (await pending).outcome is ReloadOutcome.FAILED
    assert not process.applied


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


def test_a_policy_survives_its_transport(file: Path) -> None:
    policy = load_policy(file)
    again = unframed(framed(policy))
    names = [name for name in Policy.__dataclass_fields__ if name not in {"routes", "router", "identity"}]
    assert [getattr(again, name) for name in names] == [getattr(policy, name) for name in names]
    rows = [[(name, getattr(row, name)) for name in row.__dataclass_fields__] for row in policy.routes]
    assert [[(name, getattr(row, name)) for name in row.__dataclass_fields__] for row in again.routes] == rows
    assert {row.fragment for row in again.routes} == {b""}


async def test_a_former_policy_is_freed_when_its_last_user_has_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release, "_WAIT_S", 0.01)
    policies = [load_policy(shipped("policies/truetick.yaml"))]
    router, used = policies[0].router, policies[0]
    target = parse("/v1/servers")
    assert target is not None
    task = asyncio.create_task(release.release(policies.pop()))
    await asyncio.sleep(0.1)
    assert not task.done()
    assert (found := router.match("GET", target)) is not None
    assert found.route is not None
    del used
    async with asyncio.timeout(5):
        await task
    assert (gone := router.match("GET", target)) is not None
    assert gone.route is None
