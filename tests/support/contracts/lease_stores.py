"""Lease stores whose time a test can advance, for the contract that all of them must satisfy."""

from typing import Protocol

from msgspec.structs import replace
from support.builders import record

from authz.adapters.redis.connection.cluster import RedisCluster
from authz.adapters.redis.connection.link import RedisLink
from authz.adapters.redis.connection.scripts import Script
from authz.adapters.redis.leases import RedisLeases, note_key
from authz.core.check import KeyState
from authz.core.streams import Lease
from authz.service.ports import LeaseStore

# Makes everything that is kept as old as if some milliseconds had passed.
AGE = Script(b"""
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local key_id, numbers, claims = string.match(all[i + 1], '^(%S+) (.*) (%d+)$')
  local aged = string.gsub(numbers, '%d+', function(ms)
    return ms == '0' and ms or string.format('%.0f', ms - ARGV[1])
  end)
  redis.call('HSET', KEYS[1], all[i], key_id .. ' ' .. aged .. ' ' .. claims)
end
for i = 2, #KEYS do
  local left = redis.call('PTTL', KEYS[i])
  if left > 0 then redis.call('PEXPIRE', KEYS[i], string.format('%.0f', left - ARGV[1])) end
end
""")


class Subject(LeaseStore, Protocol):
    async def stop(self, account_id: str, key_id: str, state: KeyState) -> None: ...
    async def wait(self, seconds: float, *leases: Lease) -> None: ...


class RedisSubject(RedisLeases):
    def __init__(self, link: RedisLink | RedisCluster) -> None:
        super().__init__(link)
        self.link = link
        self._revision = 1

    async def stop(self, account_id: str, key_id: str, state: KeyState) -> None:
        self._revision += 1
        changed = record(state=state, revision=self._revision)
        await note_key(self.link, replace(changed, account_id=account_id, key_id=key_id))

    async def wait(self, seconds: float, *leases: Lease) -> None:
        named = [f"l:{{{lease.account_id}}}:{lease.stream}" for lease in leases]
        ends = [f"{name}:{lease.lease_id}".encode() for name, lease in zip(named, leases, strict=True)]
        for name in {*named}:
            await self.link.call(AGE, (name.encode(), *ends), str(int(seconds * 1000)).encode())
            ends = []
