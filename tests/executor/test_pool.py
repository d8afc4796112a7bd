"""Hosts within the capacity: a ledger beside the pool sees every start and every end."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitray.errors import StageError
from splitray.executor.pool import ANY, LADDER, Lease, Pool


@dataclass
class Ledger:
    """What lives, by name, and what it costs."""

    capacity: float
    alive: dict[str, float] = field(default_factory=dict)
    started: list[str] = field(default_factory=list)
    refuse: bool = False

    def start(self, name: str, workers: int, share: float) -> str:
        if self.refuse:
            raise RuntimeError("the actor's name is taken")
        assert name not in self.alive, "two hosts of one name"
        self.alive[name] = workers * share
        self.started.append(name)
        assert sum(self.alive.values()) <= self.capacity + 1e-6, self.alive
        return name

    def end(self, lease: Lease) -> None:
        del self.alive[lease.actor]

    def pool(self) -> Pool:
        return Pool(self.capacity, 1.0, "CPUs", self.start, self.end)


def play(capacity: float, scene: Callable[[Ledger, Pool], Coroutine[Any, Any, None]]) -> Ledger:
    ledger = Ledger(capacity)

    async def run() -> None:
        await asyncio.wait_for(scene(ledger, ledger.pool()), timeout=60)

    asyncio.run(run())
    return ledger


async def soon(waiting: "asyncio.Task[Lease]") -> bool:
    """Whether a lease is given by the time that all who can have moved."""
    for _ in range(20):
        await asyncio.sleep(0)
    return waiting.done()


def test_any_warm_host_will_do_and_the_ladders_first() -> None:
    async def scene(ledger: Ledger, pool: Pool) -> None:
        first = await pool.lend(ANY)
        assert first.name == "ladder[0]", "none is warm: the ladder starts one"
        special = await pool.lend("specialist[a]")
        await pool.give_back(special, True)
        borrowed = await pool.lend(ANY)
        assert borrowed.actor == special.actor
        later = asyncio.create_task(pool.lend("specialist[a]"))
        assert not await soon(later), "its host is in use"
        await pool.give_back(first, True)
        assert not await soon(later), "another's host is no specialist's"
        await pool.give_back(borrowed, True)
        assert (await later).actor == special.actor
        await pool.give_back(await later, True)
        assert (await pool.lend(ANY)).name == "ladder[0]"
        assert ledger.started == ["ladder[0]", "specialist[a]"]

    play(2, scene)


def test_warm_hosts_are_lent_again() -> None:
    async def scene(ledger: Ledger, pool: Pool) -> None:
        first = await pool.lend(LADDER)
        await pool.give_back(first, alive=True)
        again = await pool.lend(LADDER)
        assert again.actor == first.actor and ledger.started == ["ladder[0]"]
        other = await pool.lend(LADDER)
        assert other.name == "ladder[1]"
        await pool.give_back(again, alive=False)
        assert list(ledger.alive) == ["ladder[1]"], "a dead host still counts"

    play(2, scene)


def test_a_full_cluster_starts_no_process_where_a_warm_one_serves() -> None:
    async def scene(ledger: Ledger, pool: Pool) -> None:
        for lease in [await pool.lend(LADDER) for _ in range(2)]:
            await pool.give_back(lease, alive=True)
        domains = [await pool.lend(f"specialist[{domain}]") for domain in "ab"]
        third = asyncio.create_task(pool.lend("specialist[c]"))
        assert not await soon(third)
        await pool.give_back(domains[0], alive=True)
        assert (await third).actor == domains[0].actor
        assert ledger.started == ["ladder[0]", "ladder[1]"]

    play(2, scene)


def test_with_room_a_specialist_is_a_process_of_its_own() -> None:
    async def scene(ledger: Ledger, pool: Pool) -> None:
        await pool.give_back(await pool.lend(LADDER), alive=True)
        assert (await pool.lend("specialist[a]")).name == "specialist[a]"
        assert set(ledger.alive) == {"ladder[0]", "specialist[a]"}

    play(2, scene)


def test_a_group_gets_its_room_from_idle_hosts() -> None:
    async def scene(ledger: Ledger, pool: Pool) -> None:
        hosts = [await pool.lend(LADDER) for _ in range(2)]
        group = asyncio.create_task(pool.lend("base", 2))
        assert not await soon(group)
        await pool.give_back(hosts[0], alive=True)
        assert not await soon(group), "one idle host is not room enough"
        await pool.give_back(hosts[1], alive=True)
        lease = await group
        assert ledger.alive == {"base": 2}
        await pool.give_back(lease, alive=True)
        assert ledger.alive == {}, "a group's supervisor is ended with its group"

    play(2, scene)


def test_first_come_first_served() -> None:
    """A group that waits is not overtaken for ever by small requests that would fit."""

    async def scene(ledger: Ledger, pool: Pool) -> None:
        host = await pool.lend(LADDER)
        group = asyncio.create_task(pool.lend("base", 2))
        await soon(group)
        late = asyncio.create_task(pool.lend(LADDER))
        assert not await soon(late) and not group.done()
        await pool.give_back(host, alive=True)
        await pool.give_back(await group, alive=True)
        assert (await late).name == "ladder[0]"

    play(2, scene)


def test_the_longest_way_goes_first_however_late_it_asks() -> None:
    async def scene(ledger: Ledger, pool: Pool) -> None:
        busy = await pool.lend(LADDER)
        short, long = (asyncio.create_task(pool.lend(LADDER, priority=seconds)) for seconds in (10.0, 100.0))
        assert not await soon(short) and not await soon(long)
        await pool.give_back(busy, alive=True)
        assert await soon(long) and not await soon(short)
        await pool.give_back(await long, alive=True)
        assert (await short).actor == busy.actor

    play(1, scene)


def test_small_models_share_a_device_and_large_ones_have_their_own() -> None:
    async def scene(ledger: Ledger, pool: Pool) -> None:
        thirds = [await pool.lend(LADDER, share=1 / 3) for _ in range(3)]
        whole = asyncio.create_task(pool.lend(LADDER))
        assert not await soon(whole), "three thirds are one"
        await pool.give_back(thirds[0], alive=True)
        assert not await soon(whole), "a third is not enough, and its worker has room for no other"
        for lease in thirds[1:]:
            await pool.give_back(lease, alive=True)
        lease = await whole
        assert ledger.alive == {lease.actor: 1}
        small = asyncio.create_task(pool.lend(LADDER, share=1 / 3))
        await pool.give_back(lease, alive=True)
        assert (await small).actor == lease.actor, "a full cluster's warm worker serves, whatever its size"

    play(1, scene)


def test_who_waits_for_a_worker_of_its_own_lets_others_pass() -> None:
    async def scene(ledger: Ledger, pool: Pool) -> None:
        first = await pool.lend("specialist[a]")
        own = asyncio.create_task(pool.lend("specialist[a]"))
        assert not await soon(own)
        assert (await pool.lend(LADDER)).name == "ladder[0]"
        await pool.give_back(first, alive=True)
        assert (await own).actor == first.actor

    play(2, scene)


def test_scoring_goes_before_training_that_waits() -> None:
    async def scene(ledger: Ledger, pool: Pool) -> None:
        busy = await pool.lend(LADDER)
        training = asyncio.create_task(pool.lend(LADDER))
        assert not await soon(training)
        scoring = [asyncio.create_task(pool.lend(ANY)) for _ in range(2)]
        assert not any([await soon(task) for task in scoring])
        for task in scoring:
            await pool.give_back(busy, alive=True)
            assert await soon(task) and not await soon(training)
            busy = await task
        await pool.give_back(busy, alive=True)
        assert await soon(training)

    assert play(1, scene).started == ["ladder[0]"]


def test_a_specialist_is_one_actor() -> None:
    async def scene(ledger: Ledger, pool: Pool) -> None:
        first = await pool.lend("specialist[a]")
        second = asyncio.create_task(pool.lend("specialist[a]"))
        assert not await soon(second), "two actors of one domain"
        await pool.give_back(first, alive=True)
        assert (await second).actor == first.actor

    assert play(4, scene).started == ["specialist[a]"]


def test_what_can_never_fit_is_refused_with_the_arithmetic() -> None:
    async def scene(ledger: Ledger, pool: Pool) -> None:
        with pytest.raises(StageError, match=r"base needs 3 x 1 = 3 CPUs, the cluster has 2: lower its workers"):
            await pool.lend("base", 3)
        assert (await pool.lend(LADDER)).name == "ladder[0]", "the refused one stands in the queue"

    play(2, scene)


def test_a_start_that_fails_holds_nothing() -> None:
    async def scene(ledger: Ledger, pool: Pool) -> None:
        ledger.refuse = True
        with pytest.raises(RuntimeError, match="name is taken"):
            await pool.lend(LADDER)
        ledger.refuse = False
        assert len({(await pool.lend(LADDER)).name for _ in range(2)}) == 2

    play(2, scene)


def test_those_who_give_up_waiting_free_the_queue() -> None:
    async def scene(ledger: Ledger, pool: Pool) -> None:
        host = await pool.lend("base", 2)
        gone, stays = (asyncio.create_task(pool.lend(LADDER)) for _ in range(2))
        await soon(stays)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        await pool.give_back(host, alive=True)
        assert (await stays).name == "ladder[0]"

    play(2, scene)


def test_closing_tells_those_who_wait() -> None:
    async def scene(ledger: Ledger, pool: Pool) -> None:
        await pool.lend("base", 2)
        waiting = asyncio.create_task(pool.lend(LADDER))
        await soon(waiting)
        await pool.close()
        for lend in (waiting, pool.lend(LADDER)):
            with pytest.raises(StageError, match="the run is stopping"):
                await lend

    play(2, scene)


def test_work_goes_to_an_idle_worker_instead_of_one_that_cannot_start() -> None:
    """A cluster that others fill: the second worker's process never comes up, while the first one becomes idle."""

    async def scene(ledger: Ledger, pool: Pool) -> None:
        up = {"ladder[0]"}
        pool.up = up.__contains__
        first, second = await pool.lend(LADDER), await pool.lend(LADDER)
        assert await pool.exchange(second) is second, "nobody is idle"
        await pool.give_back(first, alive=True)
        given = await pool.exchange(second)
        assert given is first and set(ledger.alive) == {"ladder[0]", "ladder[1]"}
        # the other is idle now, and as good as any once its process is up
        await pool.give_back(given, alive=True)
        assert await pool.lend(ANY) is first, "one that is up goes before one that is not"
        assert (await pool.lend(LADDER)).name == "ladder[1]"

    play(2, scene)


def test_idle_workers_go_after_a_while() -> None:
    async def scene(ledger: Ledger, pool: Pool) -> None:
        leases = [await pool.lend(LADDER) for _ in range(3)]
        await pool.give_back(leases[0], alive=True)
        await asyncio.sleep(0.2)
        await pool.give_back(leases[1], alive=True)
        assert pool.idle_longer(0.15) and not pool.idle_longer(60)
        await pool.dismiss_idle(0.15)
        assert set(ledger.alive) == {"ladder[1]", "ladder[2]"}, "one was idle for shorter, one is in use"
        assert not pool.idle_longer(0.15)

    play(3, scene)


requests = st.lists(
    st.tuples(
        st.sampled_from([LADDER, LADDER, "base", "specialist[a]", "specialist[b]"]), st.integers(1, 3), st.booleans()
    ),
    max_size=30,
)


@given(requests, st.integers(3, 5))
def test_never_above_capacity_and_everyone_is_served(wanted: list[tuple[str, int, bool]], capacity: int) -> None:
    """Any mix of ladder hosts, groups and specialists, some of which die: the ledger holds, nobody waits for ever."""
    served = 0

    async def scene(ledger: Ledger, pool: Pool) -> None:
        async def use(kind: str, workers: int, alive: bool) -> None:
            nonlocal served
            share = 1.0 if kind.startswith("specialist") else 1 / workers
            lease = await pool.lend(kind, workers if kind == "base" else 1, share, float(workers))
            await asyncio.sleep(0)
            assert lease.actor in ledger.alive
            served += 1
            await pool.give_back(lease, alive)

        await asyncio.gather(*(use(*each) for each in wanted))
        await pool.dismiss_idle()
        assert ledger.alive == {} and abs(pool._held) < 1e-6

    play(capacity, scene)
    assert served == len(wanted)
