"""The checker between plan and conclude: misses, loads, unavailable stores, and exactly one answer for every check."""

import asyncio
from collections.abc import Sequence

import pytest
from msgspec.structs import replace
from support.builders import policy, record, request, take
from support.fakes.checker_dependencies import REQUEST, CheckerUnderTest, assert_denied

from authz.core.check import Allow, KeyRecord, KeyState, Take, TakeOutcome
from authz.core.errors import DenyReason, StoreUnavailable
from authz.service.check import loads as loads_module
from authz.service.ports import Decided


async def test_a_key_in_the_projection_is_decided_without_the_directory() -> None:
    stack = CheckerUnderTest(take("servers:read"))
    assert isinstance(await stack.decide(), Allow)
    assert stack.directory.loads == 0


async def test_a_request_that_needs_no_key_asks_no_store() -> None:
    stack = CheckerUnderTest()
    assert_denied(await stack.decide(request()), DenyReason.KEY_MISSING)
    assert isinstance(await stack.decide(request("POST", "/v1/public/login")), Allow)
    assert len(stack.observed.decisions) == 2


async def test_store_calls_and_their_latency_are_observed() -> None:
    stack, answers = CheckerUnderTest(None, take("servers:read")), list[Sequence[Decided]]()
    assert stack.checker.check([(1, request())], answers.append) is False
    assert stack.checker.check([(2, request()), (3, REQUEST)], answers.append) is True
    assert [[number for number, _, _ in decided] for decided in answers] == [[1], [2]]
    await asyncio.sleep(0)
    assert list(answers[2]) == []  # the key has to be loaded first
    await stack.checker.close()
    await asyncio.sleep(0)
    assert [number for number, _, _ in answers[3]] == [3]


async def test_a_miss_loads_the_key_and_asks_again() -> None:
    stack = CheckerUnderTest(None, take("servers:read"))
    assert isinstance(await stack.decide(), Allow)
    assert stack.projection.puts == [(record("servers:read"), "e1")]
    assert stack.observed.answered == ["postgres"]


async def test_a_key_is_loaded_once_for_all_checks_that_wait_for_it() -> None:
    stack = CheckerUnderTest(*[None] * 50, *[take("servers:read")] * 50)
    decisions = await stack.decide_all(*[REQUEST] * 50)
    assert all(isinstance(decision, Allow) for decision in decisions)
    assert stack.directory.loads == 1


async def test_a_load_writes_only_into_the_epoch_it_began_in() -> None:
    stack = CheckerUnderTest(None, take("servers:read"))
    stack.directory.gate.clear()
    deciding = asyncio.create_task(stack.decide())
    await stack.directory.loading.wait()
    stack.projection.epoch = "e2"
    stack.directory.gate.set()
    await deciding
    assert stack.projection.puts[0][1] == "e1"


async def test_an_unknown_key_is_remembered_as_unknown() -> None:
    unknown = KeyRecord(KeyState.UNKNOWN)
    stack = CheckerUnderTest(None, found=unknown)
    assert_denied(await stack.decide(), DenyReason.KEY_UNKNOWN)
    assert stack.projection.puts[0][0] == unknown


async def test_the_answer_to_an_unknown_key_waits_for_no_writing_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = KeyRecord(KeyState.UNKNOWN)
    stack, written = (
        CheckerUnderTest(None, None, None, Take(TakeOutcome.UNKNOWN, unknown), found=unknown),
        asyncio.Event(),
    )

    async def put(*_arguments: object, epoch: str) -> bool:
        assert epoch == "e1"
        await written.wait()
        return True

    monkeypatch.setattr(stack.projection, "put", put)
    for decision in await stack.decide_all(REQUEST, REQUEST):
        assert_denied(decision, DenyReason.KEY_UNKNOWN)
    # Who comes between the answer and the writing is answered from what was written.
    late = asyncio.create_task(stack.decide())
    await asyncio.sleep(0.01)
    assert not late.done()
    written.set()
    assert_denied(await late, DenyReason.KEY_UNKNOWN)
    assert stack.directory.loads == 1


async def test_a_record_that_vanishes_again_is_an_outage_not_a_loop() -> None:
    stack = CheckerUnderTest(None, None)
    assert_denied(await stack.decide(), DenyReason.STORE_UNAVAILABLE)
    assert stack.directory.loads == 1


@pytest.mark.parametrize("store", ["redis", "postgres"])
async def test_an_unavailable_store_is_a_503_with_retry_after(store: str) -> None:
    failure = StoreUnavailable(store, "closed")
    stack = CheckerUnderTest(failure) if store == "redis" else CheckerUnderTest(None, found=failure)
    assert assert_denied(await stack.decide(), DenyReason.STORE_UNAVAILABLE).retry_after_s == 1
    assert stack.observed.failed == [store]


async def test_a_projection_that_cannot_be_written_is_a_503_for_all_who_wait() -> None:
    stack = CheckerUnderTest(None, None)
    stack.projection.put_fails = True
    for decision in await stack.decide_all(REQUEST, REQUEST):
        assert_denied(decision, DenyReason.STORE_UNAVAILABLE)


async def test_a_load_that_is_cancelled_still_answers() -> None:
    stack = CheckerUnderTest(None)
    stack.directory.gate.clear()
    deciding = asyncio.create_task(stack.decide())
    await stack.directory.loading.wait()
    for task in stack.checker._loads._tasks.running:  # noqa: SLF001 -- what a closing event loop does
        task.cancel()
    assert_denied(await deciding, DenyReason.STORE_UNAVAILABLE)
    await stack.checker.close()


async def test_too_many_loads_at_once_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loads_module, "LOADS_MAX", 0)
    stack = CheckerUnderTest(None)
    assert_denied(await stack.decide(), DenyReason.STORE_UNAVAILABLE)
    assert stack.directory.loads == 0


async def test_a_check_keeps_the_policy_it_began_with() -> None:
    stack = CheckerUnderTest(None, take("servers:read"))
    stack.directory.gate.clear()
    deciding = asyncio.create_task(stack.decide())
    await stack.directory.loading.wait()
    stack.checker.policy = policy(*(route for route in policy().routes if route.template == "/v1/whoami"))
    stack.directory.gate.set()
    assert isinstance(await deciding, Allow)


async def test_a_request_that_breaks_its_plan_costs_the_others_of_its_batch_nothing() -> None:
    stack = CheckerUnderTest(take("servers:read"), take("servers:read"))
    broken = replace(REQUEST, target=None)
    before, error, behind = await stack.decide_all(REQUEST, broken, REQUEST)
    assert isinstance(before, Allow)
    assert isinstance(behind, Allow)
    assert_denied(error, DenyReason.INTERNAL)


async def test_a_reply_that_breaks_its_check_is_an_error_and_no_allow() -> None:
    stack = CheckerUnderTest(replace(take("servers:read"), record=None), take("servers:read"))
    error, behind = await stack.decide_all(REQUEST, REQUEST)
    assert_denied(error, DenyReason.INTERNAL)
    assert isinstance(behind, Allow)


async def test_answers_leave_before_they_are_noted() -> None:
    stack = CheckerUnderTest(take("servers:read"))
    noted_before: list[int] = []
    stack.checker.check([(1, REQUEST)], lambda _decided: noted_before.append(len(stack.observed.decisions)))
    await asyncio.sleep(0)
    assert noted_before == [0]
    assert len(stack.observed.decisions) == 1


async def test_a_check_that_cannot_be_noted_is_answered_and_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stack = CheckerUnderTest(take("servers:read"))
    monkeypatch.setattr(stack.observed, "decided", None)
    assert isinstance(await stack.decide(), Allow)
    assert "could not be counted" in caplog.text
