"""Reloads of one process: valid files are used as a whole, and all others change nothing."""

# ruff: noqa: ASYNC240 -- small files of the test itself

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.reloading import CLOSED, FAULTY, OPENED, TEXT, Process

from authz.adapters.policy_file.loader import load_policy
from authz.adapters.prometheus.process import ReloadOutcome
from authz.core.policy.path import parse
from authz.core.policy.policy import Gate, Policy
from authz.demo.servers import shipped
from authz.policy_reload import release
from authz.policy_reload.frames import framed, unframed
from authz.policy_reload.reload import Cause


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
