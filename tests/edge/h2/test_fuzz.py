"""A short run of the fuzzer, from a fixed seed; `make fuzz` is the long one."""

from longrun.fuzz import fuzz


async def test_damaged_sessions_do_no_harm() -> None:
    played, answered = await fuzz(seconds=2, seed=1)
    assert played >= 500
    assert answered > played / 4  # otherwise nearly all of them ended before it became interesting
