"""Over a slow network, where opening a connection takes several round trips: sentinels and clusters are still found."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

from support.contracts.key_projections import connected_store
from support.contracts.redis_commands import started_link
from support.servers.delay_proxy import delayed
from support.servers.redis_cluster import cluster, port_with_bus
from support.servers.redis_sentinel import NAME, sentinels

ROUND_TRIP_S = 0.12


async def test_sentinels_are_found(folder: Path) -> None:
    with sentinels(folder) as watched:
        async with AsyncExitStack() as down:
            far = [
                await down.enter_async_context(delayed(("127.0.0.1", sentinel.port), ROUND_TRIP_S))
                for sentinel in watched.sentinels
            ]
            nodes = ",".join(f"127.0.0.1:{proxy.port}" for proxy in far)
            link = await down.enter_async_context(started_link(f"redis+sentinel://{nodes}/{NAME}"))
            async with asyncio.timeout(5):
                await link.reached.wait()
            await asyncio.sleep(1.5)  # longer than a primary is trusted without an answer
            assert link.is_up
            assert sum(proxy.accepted for proxy in far) == len(far)


async def test_a_cluster_is_found(folder: Path) -> None:
    ports = [port_with_bus() for _ in range(3)]
    async with AsyncExitStack() as down:
        far = [await down.enter_async_context(delayed(("127.0.0.1", port), ROUND_TRIP_S)) for port in ports]
        with cluster(folder, announced=[(port, proxy.port) for port, proxy in zip(ports, far, strict=True)]):
            nodes = ",".join(f"127.0.0.1:{proxy.port}" for proxy in far)
            async with asyncio.timeout(5), connected_store(f"redis+cluster://{nodes}"):
                pass
