"""Login: the right password succeeds, a wrong one reveals nothing, and guessing is stopped."""

import asyncio
import random
import statistics
import time
from collections.abc import Callable
from typing import TypeVar

import pytest
from support.portal_use_cases import PASSWORD, PortalUseCases, random_address, random_email

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


async def refusal(use_cases: PortalUseCases, email: str, password: str, address: str = "") -> str:
    with pytest.raises(WrongCredentials) as raised:
        await use_cases.login.authenticate(email, password, address or random_address())
    return str(raised.value)


async def test_the_right_password_identifies_its_owner(use_cases: PortalUseCases) -> None:
    email = random_email()
    owner = await use_cases.accounts.sign_up(email, PASSWORD, random_address())
    assert await use_cases.login.authenticate(email, PASSWORD, random_address()) == owner


async def test_an_unknown_address_and_a_wrong_password_get_the_same_answer(use_cases: PortalUseCases) -> None:
    email = random_email()
    await use_cases.accounts.sign_up(email, PASSWORD, random_address())
    answers = {await refusal(use_cases, email, "wrong"), await refusal(use_cases, random_email(), PASSWORD)}
    answers |= {await refusal(use_cases, email, "x" * 10_000), await refusal(use_cases, "no address", PASSWORD)}
    assert answers == {"invalid email or password"}


async def timing_difference(login: Login, known: str, unknown: str, *, tries: int) -> float:
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
    use_cases = PortalUseCases(postgres, link, admin, UNLIMITED)
    passwords = Argon2Passwords(memory_kib=8192, passes=1)  # cheaper, so that whatever else differs weighs more
    login = Login(use_cases.ledger, passwords, use_cases.gate, normalised_email, use_cases.metrics)
    use_cases.accounts._passwords = passwords  # noqa: SLF001 -- one strength for both
    known = random_email()
    await use_cases.accounts.sign_up(known, PASSWORD, random_address())
    assert abs(await timing_difference(login, known, random_email(), tries=200)) < 0.05


async def test_the_first_unknown_address_costs_one_hash_like_every_other_refusal(use_cases: PortalUseCases) -> None:
    email = random_email()
    await use_cases.accounts.sign_up(email, PASSWORD, random_address())
    work: list[str] = []

    class Watched(Argon2Passwords):
        async def _run(self, work_of: Callable[[], T]) -> T:
            work.append(getattr(work_of, "func", work_of).__name__)
            return await super()._run(work_of)

    passwords = Watched(memory_kib=64, passes=1)
    login = Login(use_cases.ledger, passwords, use_cases.gate, normalised_email, use_cases.metrics)
    for whom in (random_email(), email, random_email(), "no address"):
        with pytest.raises(WrongCredentials):
            await login.authenticate(whom, "wrong", random_address())
        assert work == ["_verify"]
        work.clear()
    assert not passwords.is_outdated(passwords.decoy)
    passwords.close()


async def test_guesses_that_come_together_are_all_counted(use_cases: PortalUseCases) -> None:
    email = random_email()
    await use_cases.accounts.sign_up(email, PASSWORD, random_address())
    address = random_address()
    guesses = [use_cases.login.authenticate(email, f"guess {number}", address) for number in range(30)]
    outcomes = await asyncio.gather(*guesses, return_exceptions=True)
    assert sum(isinstance(outcome, WrongCredentials) for outcome in outcomes) == 10
    throttled = [outcome for outcome in outcomes if isinstance(outcome, Throttled)]
    assert {(str(outcome), outcome.retry_after_s) for outcome in throttled} == {
        ("too many attempts, try again later", 600)
    }
    with pytest.raises(Throttled):
        await use_cases.login.authenticate(email, PASSWORD, address)


async def test_strangers_lock_out_neither_another_address_nor_a_familiar_browser(use_cases: PortalUseCases) -> None:
    email = random_email()
    owner = await use_cases.accounts.sign_up(email, PASSWORD, random_address())
    browser = use_cases.login.familiar_browser(owner)
    stranger = random_address()
    for _ in range(10):
        await refusal(use_cases, email, "wrong", stranger)
    assert await use_cases.login.authenticate(email, PASSWORD, random_address()) == owner
    guesses = [use_cases.login.authenticate(email, "wrong", random_address()) for _ in range(120)]
    outcomes = await asyncio.gather(*guesses, return_exceptions=True)
    assert sum(isinstance(outcome, WrongCredentials) for outcome in outcomes) == 90  # 100 from everywhere
    with pytest.raises(Throttled):
        await use_cases.login.authenticate(email, PASSWORD, random_address())
    for _ in range(20):  # a right password is not counted
        assert await use_cases.login.authenticate(email, PASSWORD, random_address(), browser) == owner
    changed = await use_cases.accounts.change_password(owner, PASSWORD, "another horse battery", random_address())
    assert changed.generation == owner.generation + 1


async def test_a_familiar_browser_has_guesses_of_its_own_for_its_owner_alone(use_cases: PortalUseCases) -> None:
    email, other = random_email(), random_email()
    owner = await use_cases.accounts.sign_up(email, PASSWORD, random_address())
    await use_cases.accounts.sign_up(other, PASSWORD, random_address())
    browser = use_cases.login.familiar_browser(owner)
    for _ in range(10):
        with pytest.raises(WrongCredentials):
            await use_cases.login.authenticate(email, "wrong", random_address(), browser)
    with pytest.raises(Throttled):
        await use_cases.login.authenticate(email, PASSWORD, random_address(), browser)
    address = random_address()
    for token in (browser, "", "x" * 10_000, "x.y", "\u00e9." + "0" * 64):
        for _ in range(2):
            with pytest.raises(WrongCredentials):
                await use_cases.login.authenticate(other, "wrong", address, token)
    with pytest.raises(Throttled):
        await use_cases.login.authenticate(other, PASSWORD, address, browser)


async def test_an_address_that_guesses_at_many_accounts_is_stopped(use_cases: PortalUseCases) -> None:
    address = random_address()
    for _ in range(DEFAULT_THROTTLES[Attempt.LOGIN].per_address):
        await refusal(use_cases, random_email(), "wrong", address)
    with pytest.raises(Throttled):
        await use_cases.login.authenticate(random_email(), "wrong", address)
    await refusal(use_cases, random_email(), "wrong")


async def test_logins_that_succeed_do_not_lock_their_owner_out(use_cases: PortalUseCases) -> None:
    email = random_email()
    await use_cases.accounts.sign_up(email, PASSWORD, random_address())
    for _ in range(15):
        await use_cases.login.authenticate(email, PASSWORD, random_address())


async def test_a_window_ends(use_cases: PortalUseCases, link: RedisLink) -> None:
    gate = Gate(use_cases.gate._counters, {Attempt.LOGIN: Throttle(1, 0, 1)}, use_cases.metrics)  # noqa: SLF001 -- the same store
    address = random_address()
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


async def test_without_a_counter_store_nobody_logs_in(use_cases: PortalUseCases, link: RedisLink) -> None:
    email = random_email()
    await use_cases.accounts.sign_up(email, PASSWORD, random_address())
    await link.close()
    with pytest.raises(StoreUnavailable):
        await use_cases.login.authenticate(email, PASSWORD, random_address())


async def test_a_hash_of_older_parameters_is_made_anew_at_the_next_login(use_cases: PortalUseCases) -> None:
    email = random_email()
    await use_cases.accounts.sign_up(email, PASSWORD, random_address())
    stronger = Argon2Passwords(memory_kib=128, passes=2)
    login = Login(use_cases.ledger, stronger, use_cases.gate, normalised_email, use_cases.metrics)
    before = await login.authenticate(email, PASSWORD, random_address())
    after = await login.authenticate(email, PASSWORD, random_address())
    assert (stronger.is_outdated(before.password_hash), stronger.is_outdated(after.password_hash)) == (True, False)
    assert after.generation == before.generation
    assert after.password_hash.startswith("$argon2id$v=19$m=128,t=2,p=1$")


async def test_excess_callers_get_retry_after_and_do_not_delay_the_first() -> None:
    passwords = Argon2Passwords(memory_kib=4096, passes=1, waiting_max=5)
    outcomes = await asyncio.gather(*(passwords.hash(PASSWORD) for _ in range(50)), return_exceptions=True)
    assert sum(isinstance(outcome, StoreUnavailable) for outcome in outcomes) == 45
    assert await passwords.verify(next(outcome for outcome in outcomes if isinstance(outcome, str)), PASSWORD)
    passwords.close()


async def test_a_hash_that_cannot_be_read_is_no_password() -> None:
    passwords = Argon2Passwords(memory_kib=64, passes=1)
    assert not await passwords.verify("rubbish", PASSWORD)
    passwords.close()
