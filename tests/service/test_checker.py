"""What happens between plan and conclude: misses, loads, stores out of reach, and that every check gets one answer."""

import asyncio
from collections.abc import Sequence

import pytest
from builders import policy, record, request, take
from checkers import ASK, House, refused
from msgspec.structs import replace

from authz.core.check import Allow, KeyRecord, KeyState, Take, TakeOutcome
from authz.core.errors import DenyReason, StoreUnavailable
from authz.service import checker as checker_module
from authz.service.ports import Decided


async def test_a_key_in_the_projection_is_decided_without_the_directory() -> None:
    house = House(take("servers:read"))
    assert isinstance(await house.decide(), Allow)
    assert house.directory.loads == 0


async def test_a_request_that_needs_no_key_asks_no_store() -> None:
    house = House()
    refused(await house.decide(request()), DenyReason.KEY_MISSING)
    assert isinstance(await house.decide(request("POST", "/v1/public/login")), Allow)
    assert len(house.observed.decisions) == 2


async def test_whoever_asks_is_told_whether_a_store_was_asked_and_when_it_has_answered() -> None:
    house, answers = House(None, take("servers:read")), list[Sequence[Decided]]()
    assert house.checker.check([(1, request())], answers.append) is False
    assert house.checker.check([(2, request()), (3, ASK)], answers.append) is True
    assert [[number for number, _, _ in decided] for decided in answers] == [[1], [2]]
    await asyncio.sleep(0)
    assert list(answers[2]) == []  # the key has to be loaded first
    await house.checker.close()
    await asyncio.sleep(0)
    assert [number for number, _, _ in answers[3]] == [3]


async def test_a_miss_loads_the_key_and_asks_again() -> None:
    house = House(None, take("servers:read"))
    assert isinstance(await house.decide(), Allow)
    assert house.projection.puts == [(record("servers:read"), "e1")]
    assert house.observed.answered == ["postgres"]


async def test_a_key_is_loaded_once_for_all_checks_that_wait_for_it() -> None:
    house = House(*[None] * 50, *[take("servers:read")] * 50)
    decisions = await house.decide_all(*[ASK] * 50)
    assert all(isinstance(decision, Allow) for decision in decisions)
    assert house.directory.loads == 1


async def test_a_load_writes_only_into_the_epoch_it_began_in() -> None:
    house = House(None, take("servers:read"))
    house.directory.gate.clear()
    deciding = asyncio.create_task(house.decide())
    await house.directory.loading.wait()
    house.projection.epoch = "e2"
    house.directory.gate.set()
    await deciding
    assert house.projection.puts[0][1] == "e1"


async def test_an_unknown_key_is_remembered_as_unknown() -> None:
    unknown = KeyRecord(KeyState.UNKNOWN)
    house = House(None, found=unknown)
    refused(await house.decide(), DenyReason.KEY_UNKNOWN)
    assert house.projection.puts[0][0] == unknown


async def test_the_answer_to_an_unknown_key_waits_for_no_writing_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = KeyRecord(KeyState.UNKNOWN)
    house, written = House(None, None, None, Take(TakeOutcome.UNKNOWN, unknown), found=unknown), asyncio.Event()

    async def put(*_arguments: object, epoch: str) -> bool:
        assert epoch == "e1"
        await written.wait()
        return True

    monkeypatch.setattr(house.projection, "put", put)
    for decision in await house.decide_all(ASK, ASK):
        refused(decision, DenyReason.KEY_UNKNOWN)
    # Who comes between the answer and the writing is answered from what was written.
    late = asyncio.create_task(house.decide())
    await asyncio.sleep(0.01)
    assert not late.done()
    written.set()
    refused(await late, DenyReason.KEY_UNKNOWN)
    assert house.directory.loads == 1


async def test_a_record_that_vanishes_again_is_an_outage_not_a_loop() -> None:
    house = House(None, None)
    refused(await house.decide(), DenyReason.STORE_UNAVAILABLE)
    assert house.directory.loads == 1


@pytest.mark.parametrize("store", ["redis", "postgres"])
async def test_a_store_out_of_reach_is_a_503_that_says_when_to_come_back(store: str) -> None:
    failure = StoreUnavailable(store, "closed")
    house = House(failure) if store == "redis" else House(None, found=failure)
    assert refused(await house.decide(), DenyReason.STORE_UNAVAILABLE).retry_after_s == 1
    assert house.observed.failed == [store]


async def test_a_projection_that_cannot_be_written_is_a_503_for_all_who_wait() -> None:
    house = House(None, None)
    house.projection.put_fails = True
    for decision in await house.decide_all(ASK, ASK):
        refused(decision, DenyReason.STORE_UNAVAILABLE)


async def test_a_load_that_is_cancelled_still_answers() -> None:
    house = House(None)
    house.directory.gate.clear()
    deciding = asyncio.create_task(house.decide())
    await house.directory.loading.wait()
    for task in house.checker._tasks:  # noqa: SLF001 -- what a closing event loop does
        task.cancel()
    refused(await deciding, DenyReason.STORE_UNAVAILABLE)
    await house.checker.close()


async def test_too_many_loads_at_once_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checker_module, "FILLS_MAX", 0)
    house = House(None)
    refused(await house.decide(), DenyReason.STORE_UNAVAILABLE)
    assert house.directory.loads == 0


async def test_a_check_keeps_the_policy_it_began_with() -> None:
    house = House(None, take("servers:read"))
    house.directory.gate.clear()
    deciding = asyncio.create_task(house.decide())
    await house.directory.loading.wait()
    house.checker.policy = policy(*(route for route in policy().routes if route.template == "/v1/whoami"))
    house.directory.gate.set()
    assert isinstance(await deciding, Allow)


async def test_a_request_that_breaks_its_plan_costs_the_others_of_its_batch_nothing() -> None:
    house = House(take("servers:read"), take("servers:read"))
    broken = replace(ASK, target=None)
    before, error, behind = await house.decide_all(ASK, broken, ASK)
    assert isinstance(before, Allow)
    assert isinstance(behind, Allow)
    refused(error, DenyReason.INTERNAL)


async def test_a_reply_that_breaks_its_check_is_an_error_and_no_allow() -> None:
    house = House(replace(take("servers:read"), record=None), take("servers:read"))
    error, behind = await house.decide_all(ASK, ASK)
    refused(error, DenyReason.INTERNAL)
    assert isinstance(behind, Allow)


async def test_answers_leave_before_they_are_noted() -> None:
    house = House(take("servers:read"))
    noted_before: list[int] = []
    house.checker.check([(1, ASK)], lambda _decided: noted_before.append(len(house.observed.decisions)))
    await asyncio.sleep(0)
    assert noted_before == [0]
    assert len(house.observed.decisions) == 1


async def test_a_check_that_cannot_be_noted_is_answered_and_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    house = House(take("servers:read"))
    monkeypatch.setattr(house.observed, "decided", None)
    assert isinstance(await house.decide(), Allow)
    assert "could not be noted" in caplog.text
