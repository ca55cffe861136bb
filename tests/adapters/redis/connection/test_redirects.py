"""Redirections and layouts as nodes may put them, without nodes: which is believed, and that none leads on for ever."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import hiredis
import pytest
from redis.crc import key_slot
from support.contracts.key_lookups import DEFAULT, start_take

from authz.adapters.redis.cluster_keys import RedisClusterKeys
from authz.adapters.redis.connection.cluster import REDIRECTS_MAX, RedisCluster
from authz.adapters.redis.connection.errors import Redirected, failure
from authz.adapters.redis.connection.link import RedisLink
from authz.adapters.redis.connection.slots import Layout, find_layout
from authz.adapters.redis.connection.url import Address, read_url
from authz.adapters.redis.keys import RedisKeys
from authz.adapters.redis.records import redis_key
from authz.core.check import Lookup
from authz.core.errors import StoreUnavailable
from authz.core.limits import KeyLimits, Limit
from authz.service.ports import Taken

NOWHERE = "redis+cluster://127.0.0.1:1"
HERE, THERE = Address("10.0.0.1", 6379), Address("10.0.0.2", 6380)
DIGEST = bytes(32)


class AnsweringLink:
    """A link that is up, and answers what a node would of its slots."""

    is_up = True

    def __init__(self, state: str, epoch: int, slots: object) -> None:
        info = f"cluster_state:{state}\r\ncluster_current_epoch:{epoch}\r\n".encode()
        self._replies = {"INFO": info, "SLOTS": slots}

    async def ask(self, *words: str) -> Any:  # noqa: ANN401 -- any reply
        return self._replies[words[1]]


def links(**answers: AnsweringLink) -> dict[Address, RedisLink]:
    addresses = {"here": HERE, "there": THERE}
    return {addresses[name]: cast("RedisLink", link) for name, link in answers.items()}


def slots_of(address: Address) -> list[object]:
    return [[0, 16383, [address.host.encode(), address.port, b"id", []]]]


@pytest.mark.parametrize(
    ("text", "slot", "host", "port", "asking"),
    [
        ("MOVED 3999 127.0.0.1:6381", 3999, "127.0.0.1", 6381, False),
        ("ASK 0 redis-3.example:6381", 0, "redis-3.example", 6381, True),
        ("MOVED 1 ::1:7000", 1, "::1", 7000, False),
        ("MOVED 1 [::1]:7000", 1, "::1", 7000, False),
        ("ASK 16383 :7000", 16383, "", 7000, True),
    ],
)
def test_a_redirection_is_read(text: str, slot: int, host: str, port: int, *, asking: bool) -> None:
    found = failure(hiredis.ReplyError(text))
    assert isinstance(found, Redirected)
    assert (found.slot, found.host, found.port, found.asking) == (slot, host, port, asking)


@pytest.mark.parametrize("text", ["MOVED", "MOVED 1 nowhere", "ERR MOVED 1 h:1", "CLUSTERDOWN The cluster is down"])
def test_what_is_no_redirection_is_an_outage_with_its_words(text: str) -> None:
    found = failure(hiredis.ReplyError(text))
    assert not isinstance(found, Redirected)
    assert text in str(found)


async def test_the_node_that_knows_of_the_latest_failover_is_believed() -> None:
    late, early = AnsweringLink("ok", 7, slots_of(HERE)), AnsweringLink("ok", 6, slots_of(THERE))
    for known in (links(here=late, there=early), links(here=early, there=late)):
        assert (await find_layout(read_url(NOWHERE), known)).ranges == ((0, 16383, HERE),)


async def test_a_node_that_serves_is_believed_rather_than_one_that_does_not() -> None:
    known = links(here=AnsweringLink("ok", 6, slots_of(HERE)), there=AnsweringLink("fail", 9, slots_of(THERE)))
    assert (await find_layout(read_url(NOWHERE), known)).ranges == ((0, 16383, HERE),)
    alone = links(there=AnsweringLink("fail", 9, slots_of(THERE)))
    assert await find_layout(read_url(NOWHERE), alone) == Layout(is_ok=False, epoch=9, ranges=((0, 16383, THERE),))


@pytest.mark.parametrize("unnamed", [b"", None])
async def test_a_node_that_does_not_name_itself_is_the_one_that_answered(unnamed: bytes | None) -> None:
    known = links(there=AnsweringLink("ok", 1, [[0, 5, [unnamed, 6380, b"id"], [b"replica", 1, b"id"]]]))
    assert (await find_layout(read_url(NOWHERE), known)).ranges == ((0, 5, THERE),)


@pytest.mark.parametrize("slots", [None, [[0]], [[0, 1, 2]], [["x", "y", []]]])
async def test_slots_that_cannot_be_read_are_an_outage(slots: object) -> None:
    with pytest.raises(StoreUnavailable, match="slots that cannot be read"):
        await find_layout(read_url(NOWHERE), links(here=AnsweringLink("ok", 1, slots)))


@pytest.fixture
async def cluster() -> AsyncIterator[RedisCluster]:
    """A cluster of which only a redirection is known."""
    cluster = RedisCluster(NOWHERE, deadline_s=1, in_flight_max=10)
    yield cluster
    await cluster.close()


def moved(host: str) -> Redirected:
    return Redirected(16022, host, 1, asking=False)


async def test_a_redirection_without_a_host_leads_to_the_same_one(cluster: RedisCluster) -> None:
    link = cluster.follow(moved("127.0.0.1"), cast("RedisLink", None))
    assert cluster.follow(moved(""), link) is link
    assert cluster.owner(16022) is link


async def test_a_command_that_is_sent_to_and_fro_is_an_outage_in_the_end(cluster: RedisCluster) -> None:
    slot, tries = key_slot(redis_key(DIGEST)), list[RedisLink]()
    hosts = ["127.0.0.1", "127.0.0.2"]

    def elsewhere() -> Redirected:
        return Redirected(slot, hosts[len(tries) % 2], 1, asking=False)

    class Redirecting(RedisKeys):
        def take(
            self,
            lookups: Sequence[Lookup],
            default: Limit,
            taken: Taken,
            *,
            account: Limit | None = None,
            limits: KeyLimits | None = None,
        ) -> None:
            assert (len(lookups), default, account, limits) == (1, DEFAULT, None, None)
            tries.append(self._link)
            taken([0], [elsewhere()])

    async def run(link: RedisLink) -> None:
        tries.append(link)
        raise elsewhere()

    cluster.follow(elsewhere(), cast("RedisLink", None))
    with pytest.raises(StoreUnavailable, match="sends its keys elsewhere"):
        await cluster.on_owner(redis_key(DIGEST), run)
    assert len(tries) == REDIRECTS_MAX + 1
    tries.clear()
    keys = RedisClusterKeys(cluster, negative_ttl_s=5, on_use=lambda _key_id: None)
    keys._keys_at = lambda link: Redirecting(link, negative_ttl_s=5)  # type: ignore[method-assign]  # noqa: SLF001 -- no node redirects for ever
    assert isinstance(await start_take(keys, DIGEST), StoreUnavailable)
    assert len(tries) == REDIRECTS_MAX + 1
