"""Logging in: who is right gets in, who is wrong learns nothing, and guessing comes to an end."""

import asyncio
import random
import statistics
import time
from collections.abc import Callable
from typing import TypeVar

import pytest
from support.fakes.portal import PASSWORD, People, an_address, an_email

from authz.adapters.argon2 import Argon2Passwords
from authz.adapters.email_addresses import normalised_email
from authz.adapters.postgres.pool import Postgres
from authz.adapters.redis.connection.link import RedisLink
from authz.core.errors import StoreUnavailable, Throttled, WrongCredentials
from authz.core.throttles import DEFAULT_THROTTLES, Attempt, Throttle
from authz.service.keys.admin import KeyAdmin
from authz.service.portal.login import Login
from authz.service.portal.throttling import Gate

T = TypeVar("T")

UNLIMITED = {attempt: Throttle(10**9, 10**9, 60) for attempt in Attempt}


async def refusal(people: People, email: str, password: str, address: str = "") -> str:
    with pytest.raises(WrongCredentials) as raised:
        await people.login.authenticate(email, password, address or an_address())
    return str(raised.value)


async def test_the_right_password_says_who_someone_is(people: People) -> None:
    email = an_email()
    owner = await people.accounts.sign_up(email, PASSWORD, an_address())
    assert await people.login.authenticate(email, PASSWORD, an_address()) == owner


async def test_an_unknown_address_and_a_wrong_password_get_the_same_answer(people: People) -> None:
    email = an_email()
    await people.accounts.sign_up(email, PASSWORD, an_address())
    answers = {await refusal(people, email, "wrong"), await refusal(people, an_email(), PASSWORD)}
    answers |= {await refusal(people, email, "x" * 10_000), await refusal(people, "no address", PASSWORD)}
    assert answers == {"invalid email or password"}


async def told_apart_by(login: Login, known: str, unknown: str, *, tries: int) -> float:
    """How much longer a wrong password takes than an unknown address, as a share: the median over so many pairs.

    The two of a pair follow each other in either order, so that whatever else the machine is doing meets both alike.
    Medians of all their times would not do: on a busy machine these have two humps, and a median falls on either.
    """
    took: dict[str, list[float]] = {known: [], unknown: []}
    for _ in range(tries):
        for email in random.sample((known, unknown), 2):
            started_s = time.perf_counter()
            with pytest.raises(WrongCredentials):
                await login.authenticate(email, "wrong", "203.0.113.9")
            took[email].append(time.perf_counter() - started_s)
    differences = [wrong_s - unknown_s for wrong_s, unknown_s in zip(took[known], took[unknown], strict=True)]
    return statistics.median(differences) / statistics.median(took[known])


@pytest.mark.timed
async def test_an_unknown_address_takes_the_time_of_a_wrong_password(
    postgres: Postgres, link: RedisLink, admin: KeyAdmin
) -> None:
    people = People(postgres, link, admin, UNLIMITED)
    passwords = Argon2Passwords(memory_kib=8192, passes=1)  # cheaper, so that whatever else differs weighs more
    login = Login(people.ledger, passwords, people.gate, normalised_email, people.metrics)
    people.accounts._passwords = passwords  # noqa: SLF001 -- one strength for both
    known = an_email()
    await people.accounts.sign_up(known, PASSWORD, an_address())
    assert abs(await told_apart_by(login, known, an_email(), tries=200)) < 0.05


async def test_the_first_unknown_address_costs_one_hash_like_every_other_refusal(people: People) -> None:
    email = an_email()
    await people.accounts.sign_up(email, PASSWORD, an_address())
    work: list[str] = []

    class Watched(Argon2Passwords):
        async def _run(self, work_of: Callable[[], T]) -> T:
            work.append(getattr(work_of, "func", work_of).__name__)
            return await super()._run(work_of)

    passwords = Watched(memory_kib=64, passes=1)
    login = Login(people.ledger, passwords, people.gate, normalised_email, people.metrics)
    for whom in (an_email(), email, an_email(), "no address"):
        with pytest.raises(WrongCredentials):
            await login.authenticate(whom, "wrong", an_address())
        assert work == ["_verify"]
        work.clear()
    assert not passwords.is_outdated(passwords.decoy)
    passwords.close()


async def test_guesses_that_come_together_are_all_counted(people: People) -> None:
    email = an_email()
    await people.accounts.sign_up(email, PASSWORD, an_address())
    guesses = [people.login.authenticate(email, f"guess {number}", an_address()) for number in range(50)]
    outcomes = await asyncio.gather(*guesses, return_exceptions=True)
    assert sum(isinstance(outcome, WrongCredentials) for outcome in outcomes) == 10
    throttled = [outcome for outcome in outcomes if isinstance(outcome, Throttled)]
    assert {(str(outcome), outcome.retry_after_s) for outcome in throttled} == {
        ("too many attempts, try again later", 600)
    }
    with pytest.raises(Throttled):
        await people.login.authenticate(email, PASSWORD, an_address())


async def test_an_address_that_guesses_at_many_accounts_is_stopped(people: People) -> None:
    address = an_address()
    for _ in range(DEFAULT_THROTTLES[Attempt.LOGIN].per_address):
        await refusal(people, an_email(), "wrong", address)
    with pytest.raises(Throttled):
        await people.login.authenticate(an_email(), "wrong", address)
    await refusal(people, an_email(), "wrong")


async def test_logins_that_succeed_do_not_lock_their_owner_out(people: People) -> None:
    email = an_email()
    await people.accounts.sign_up(email, PASSWORD, an_address())
    for _ in range(15):
        await people.login.authenticate(email, PASSWORD, an_address())


async def test_a_window_ends(people: People, link: RedisLink) -> None:
    gate = Gate(people.gate._counters, {Attempt.LOGIN: Throttle(1, 0, 1)}, people.metrics)  # noqa: SLF001 -- the same store
    address = an_address()
    await gate.admit(Attempt.LOGIN, address=address)
    with pytest.raises(Throttled):
        await gate.admit(Attempt.LOGIN, address=address)
    started_s = time.monotonic()
    while True:
        try:
            await gate.admit(Attempt.LOGIN, address=address)
            break
        except Throttled:
            assert time.monotonic() - started_s < 3
    assert link.is_up


async def test_where_nobody_can_count_nobody_gets_in(people: People, link: RedisLink) -> None:
    email = an_email()
    await people.accounts.sign_up(email, PASSWORD, an_address())
    await link.close()
    with pytest.raises(StoreUnavailable):
        await people.login.authenticate(email, PASSWORD, an_address())


async def test_a_hash_of_older_parameters_is_made_anew_at_the_next_login(people: People) -> None:
    email = an_email()
    await people.accounts.sign_up(email, PASSWORD, an_address())
    stronger = Argon2Passwords(memory_kib=128, passes=2)
    login = Login(people.ledger, stronger, people.gate, normalised_email, people.metrics)
    before = await login.authenticate(email, PASSWORD, an_address())
    after = await login.authenticate(email, PASSWORD, an_address())
    assert (stronger.is_outdated(before.password_hash), stronger.is_outdated(after.password_hash)) == (True, False)
    assert after.generation == before.generation
    assert after.password_hash.startswith("$argon2id$v=19$m=128,t=2,p=1$")


async def test_a_crowd_is_told_to_come_back_and_does_not_hold_up_who_came_first() -> None:
    passwords = Argon2Passwords(memory_kib=4096, passes=1, waiting_max=5)
    outcomes = await asyncio.gather(*(passwords.hash(PASSWORD) for _ in range(50)), return_exceptions=True)
    assert sum(isinstance(outcome, StoreUnavailable) for outcome in outcomes) == 45
    assert await passwords.verify(next(outcome for outcome in outcomes if isinstance(outcome, str)), PASSWORD)
    passwords.close()


async def test_a_hash_that_cannot_be_read_is_no_password() -> None:
    passwords = Argon2Passwords(memory_kib=64, passes=1)
    assert not await passwords.verify("rubbish", PASSWORD)
    passwords.close()
