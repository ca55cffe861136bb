"""Loads of missing keys: many in one query, none held up by another, and no check that waits longer than its caller."""

import asyncio

import pytest
from support.builders import record, request, take
from support.fakes.checker_dependencies import CheckerUnderTest, assert_denied

from authz.core.check import Allow, RequestAttributes
from authz.core.errors import DenyReason, StoreUnavailable
from authz.core.keys import KeyFormat, digest
from authz.service.check import loads as loads_module

_FORMAT = KeyFormat("ttk_")


def secrets(count: int) -> list[str]:
    return [_FORMAT.mint(number.to_bytes(32)) for number in range(count)]


def asked(secret: str) -> RequestAttributes:
    return request("GET", "/v1/servers/s1", secret)


def stack_for(checks: int) -> CheckerUnderTest:
    """Return a stack in which so many checks each miss, and are granted once their key was loaded."""
    return CheckerUnderTest(*[None] * checks, *[take("servers:read")] * checks)


async def test_all_keys_that_are_missed_in_one_turn_are_read_in_one_query() -> None:
    stack = stack_for(50)
    decisions = await stack.decide_all(*map(asked, secrets(50)))
    assert all(isinstance(decision, Allow) for decision in decisions)
    assert stack.directory.batches == [50]


async def test_keys_that_are_missed_while_a_load_begins_go_with_it() -> None:
    stack = stack_for(3)
    stack.directory.ready.clear()
    first, second, third = (asyncio.create_task(stack.decide(asked(secret))) for secret in secrets(3))
    await asyncio.sleep(0.01)
    assert stack.directory.batches == []
    stack.directory.ready.set()
    await asyncio.gather(first, second, third)
    assert stack.directory.batches == [3]


async def test_a_load_is_bounded_and_the_rest_goes_with_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loads_module, "KEYS_MAX", 8)
    stack = stack_for(30)
    decisions = await stack.decide_all(*map(asked, secrets(30)))
    assert all(isinstance(decision, Allow) for decision in decisions)
    assert sorted(stack.directory.batches) == [6, 8, 8, 8]
    assert stack.directory.most_at_once <= 4


async def test_a_key_that_is_being_changed_keeps_no_other_waiting_and_is_loaded_a_moment_later() -> None:
    stack = stack_for(2)
    changing, other = secrets(2)
    stack.directory.changing.add(digest(changing.encode()))
    waiting = asyncio.create_task(stack.decide(asked(changing)))
    assert isinstance(await stack.decide(asked(other)), Allow)
    await asyncio.sleep(0.03)
    assert not waiting.done()
    stack.directory.changing.clear()
    assert isinstance(await waiting, Allow)


async def test_a_check_waits_no_longer_than_its_caller_and_the_load_goes_on() -> None:
    stack = CheckerUnderTest(None, take("servers:read"))
    stack.directory.gate.clear()
    (secret,) = secrets(1)
    loop = asyncio.get_running_loop()
    started_s = loop.time()
    deny = assert_denied(await stack.decide(asked(secret)), DenyReason.STORE_UNAVAILABLE)
    assert 0.1 < loop.time() - started_s < 0.3
    assert deny.retry_after_s == 1
    assert deny.detail == "postgres unavailable: the key is still being loaded (AUTHZ_LOAD_WAIT_S)"
    assert stack.projection.puts == []
    stack.directory.gate.set()
    await stack.checker.close()
    assert [put for put, _ in stack.projection.puts] == [record("servers:read")]


async def test_a_key_that_stays_locked_is_given_up_when_nobody_waits_for_it() -> None:
    stack = CheckerUnderTest(None)
    (secret,) = secrets(1)
    stack.directory.changing.add(digest(secret.encode()))
    assert_denied(await stack.decide(asked(secret)), DenyReason.STORE_UNAVAILABLE)
    await asyncio.wait_for(stack.checker.close(), 1)
    loads = stack.directory.loads
    await asyncio.sleep(0.05)
    assert stack.directory.loads == loads


async def test_a_directory_that_is_not_there_refuses_all_who_wait_at_once() -> None:
    stack = CheckerUnderTest(*[None] * 20)
    stack.directory.unavailable = StoreUnavailable("postgres", "no connection")
    decisions = await asyncio.wait_for(stack.decide_all(*map(asked, secrets(20))), 0.1)
    for decision in decisions:
        assert assert_denied(decision, DenyReason.STORE_UNAVAILABLE).detail == "postgres unavailable: no connection"
    await asyncio.wait_for(stack.checker.close(), 1)


async def test_one_record_that_cannot_be_written_refuses_its_own_checks_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    stack = CheckerUnderTest(None, None, take("servers:read"))
    bad, good = secrets(2)
    put = stack.projection.put

    async def fail_one(held: bytes, *arguments: object, **options: object) -> bool:
        if held == digest(bad.encode()):
            raise StoreUnavailable("redis", "closed")
        return await put(held, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(stack.projection, "put", fail_one)
    first, second = await stack.decide_all(asked(bad), asked(good))
    assert_denied(first, DenyReason.STORE_UNAVAILABLE)
    assert isinstance(second, Allow)


async def test_a_load_that_another_epoch_overtook_is_done_again(monkeypatch: pytest.MonkeyPatch) -> None:
    stack = CheckerUnderTest(None, take("servers:read"))
    put = stack.projection.put

    async def refuse_older(held: bytes, *arguments: object, epoch: str) -> bool:
        if not stack.projection.puts and stack.projection.epoch == "e1":
            stack.projection.epoch = "e2"
            return False
        return await put(held, *arguments, epoch=epoch)  # type: ignore[arg-type]

    monkeypatch.setattr(stack.projection, "put", refuse_older)
    (secret,) = secrets(1)
    assert isinstance(await stack.decide(asked(secret)), Allow)
    assert [epoch for _, epoch in stack.projection.puts] == ["e2"]
