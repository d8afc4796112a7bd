"""Hours held and used over all starts: the ledger, the events, and a count of every tenth of a second."""

import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from splitray.config import Config
from splitray.executor.usage import UsageLog
from splitray.pipeline import ledger as ledgers
from splitray.pipeline import run_folder as run_folders
from splitray.pipeline.device_usage import usage_of
from splitray.pipeline.hours import EVENT, DeviceHours, event_of, hours_in
from splitray.pipeline.ledger import Ledger, starts
from splitray.pipeline.run_folder import RunFolder
from splitray.report.bill import energy
from splitray.results.ledger import DeviceTime, Price, StageSpending, StartRecord
from splitray.runtime.worker_state import WorkerState
from splitray.storage.folder import Folder
from tests.support.configs import PLAIN

TICK = 0.1  # seconds of the simulated clock
STAGES = ("ladder", "law", "base", "evaluate")
PURPOSE = {"evaluate": {"train": "baselines", "score": "evaluation", "idle": "evaluation"}}


class Clock:
    """Stands in for the module `time` where the run reads it."""

    def __init__(self) -> None:
        self.now = 1.7e9

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def time_ns(self) -> int:
        return int(self.now * 1e9)


@dataclass
class Cluster:
    """Workers that come, work, rest, die and go at random, and the sum of what each held in every tick."""

    clock: Clock
    seed: int
    held: dict[tuple[str, str], float] = field(default_factory=dict)  # by stage and purpose, device-seconds
    used: dict[tuple[str, str], float] = field(default_factory=dict)

    def begin(self) -> None:
        """A start: nobody knows of the workers before it."""
        self.random, self.records = random.Random(self.seed), list[WorkerState]()
        self.log = UsageLog("GPU", self.records.append, self.clock.time)
        self.alive: dict[str, tuple[int, bool, str]] = {}  # devices, whether its process is up, what it does
        self.number = 0

    def tick(self, stage: str) -> None:
        chance, names = self.random.random(), list(self.alive)
        if chance < 0.02 and len(names) < 6:
            self.number += 1
            name, devices = f"worker[{self.number}]", self.random.choice([1, 1, 4])
            self.alive[name] = (devices, False, "idle")
            self.log.begin(name, devices, devices > 1)
        elif names:
            name = self.random.choice(names)
            devices, up, does = self.alive[name]
            if chance < 0.1:
                self.log.beat(name, 0 if devices > 1 else None)
                self.alive[name] = (devices, True, does)
            elif chance < 0.16:
                does = "train" if self.random.random() < 0.7 else "score"
                self.log.works(name, does)  # type: ignore[arg-type]
                self.alive[name] = (devices, up, does)
            elif chance < 0.18:
                self.log.rests(name)
                self.alive[name] = (devices, up, "idle")
            elif chance < 0.185:
                self.log.end(name)
                del self.alive[name]
        for devices, up, does in self.alive.values():
            key = stage, PURPOSE.get(stage, {}).get(does, stage)
            if up:
                self.held[key] = self.held.get(key, 0.0) + devices * TICK
            if up and does != "idle":
                self.used[key] = self.used.get(key, 0.0) + devices * TICK


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(ledgers, "time", made)
    monkeypatch.setattr(run_folders, "time", made)
    for module in (ledgers, run_folders):
        monkeypatch.setattr(module, "steady", made.time)
    return made


def events(folder: Path) -> Iterator[list[dict[str, object]]]:
    """The events of every start, as their files hold them."""
    by_start: dict[str, list[dict[str, object]]] = {}
    for file in sorted((folder / "events").iterdir()):
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        by_start.setdefault(file.name.rsplit("-", 1)[0], []).extend(lines)
    yield from by_start.values()


def one_start(folder: Path, clock: Clock, cluster: Cluster, seconds: float, killed: bool) -> None:
    """A start of the run, ended after some seconds: in the middle of its work, without a word, where it is killed."""
    config = Config(**PLAIN)
    run = RunFolder(Folder(folder), config)
    ledger = Ledger(Folder(folder), run.start, lambda params, tokens: 6.0 * params * tokens)
    cluster.begin()
    ticks = round(seconds / TICK)
    for number in range(ticks):
        stage = STAGES[number * len(STAGES) // ticks]
        if number == 0 or stage != STAGES[(number - 1) * len(STAGES) // ticks]:
            run.event("stage begins", stage=stage)
            ledger.begin(stage)
        cluster.tick(stage)
        clock.now += TICK
        if number % 10 == 9:
            for record in cluster.records:
                run.event(EVENT, **event_of(record))
            ledger.look(cluster.records, 16.0)
            cluster.records.clear()
    if not killed:
        for record in cluster.records:
            run.event(EVENT, **event_of(record))
        ledger.look(cluster.records, 16.0)
        ledger.end("done")
        run.flush()


@pytest.mark.parametrize("seed", range(3))
def test_after_two_kills_ledger_events_and_a_count_by_hand_agree(tmp_path: Path, clock: Clock, seed: int) -> None:
    cluster = Cluster(clock, seed)
    for seconds, killed in ((613.3, True), (407.7, True), (821.0, False)):
        one_start(tmp_path, clock, cluster, seconds, killed)
        clock.now += 100.0  # nothing is held while nothing runs
    records = starts(Folder(tmp_path))
    assert [record.ended for record in records] == [None, None, "done"]
    usage = usage_of(records)
    assert usage is not None
    by_purpose = {row.name: row for row in usage.purposes}
    assert set(by_purpose) == {"ladder", "law", "base", "baselines", "evaluation"}
    for name, row in by_purpose.items():
        held = sum(s for (_, purpose), s in cluster.held.items() if purpose == name)
        used = sum(s for (_, purpose), s in cluster.used.items() if purpose == name)
        assert row.hours_held * 3600 == pytest.approx(held, rel=0.01)
        assert row.hours_used * 3600 == pytest.approx(used, rel=0.01)
    for row in usage.stages:
        held = sum(s for (stage, _), s in cluster.held.items() if stage == row.name)
        assert row.hours_held * 3600 == pytest.approx(held, rel=0.01)
    from_events = [
        stage
        for lines, record in zip(events(tmp_path), records, strict=True)
        for stage in hours_in(lines, record.written)
    ]
    (total,) = usage.total
    for part, hours in (("held", total.hours_held), ("used", total.hours_used)):
        assert sum(getattr(t, part) for s in from_events for t in s.devices) == pytest.approx(hours * 3600, rel=0.01)
    assert usage.hours_provisioned * 3600 == pytest.approx(16 * (613.3 + 407.7 + 821.0), rel=0.01)


def seen(*records: tuple[float, str, str]) -> DeviceHours:
    hours = DeviceHours()
    hours.begin("ladder", 0.0)
    hours.begin("evaluate", 100.0)
    for at, worker, state in records:
        hours.see(WorkerState(at, worker, state, "GPU", 2.0))  # type: ignore[arg-type]
    return hours


def test_time_is_cut_where_a_stage_begins_though_the_records_come_late() -> None:
    ladder, evaluate = seen((60.0, "a", "train"), (130.0, "a", "idle")).until(150.0)
    assert ladder.devices == (DeviceTime("ladder", "GPU", 80.0, 80.0),)
    assert evaluate.devices == (
        DeviceTime("baselines", "GPU", 60.0, 60.0),
        DeviceTime("evaluation", "GPU", 40.0, 0.0),
    )


def test_another_coordinator_ends_the_workers_of_the_one_that_died() -> None:
    ladder, _ = seen((10.0, "a", "train"), (20.0, "b", "idle"), (40.0, "", "gone"), (60.0, "a", "idle")).until(70.0)
    assert ladder.devices == (DeviceTime("ladder", "GPU", 2 * (30 + 20 + 10), 2 * 30),)


def test_a_clock_that_is_set_back_takes_no_time_twice() -> None:
    """As events of an older splitray tell it: what went back stands still, and the rest is counted once."""
    ladder, evaluate = seen((60.0, "a", "train"), (20.0, "a", "idle"), (70.0, "a", "gone")).until(150.0)
    assert ladder.devices == (DeviceTime("ladder", "GPU", 20.0, 0.0),) and evaluate.devices == ()
    hours = seen((130.0, "a", "train"))
    hours.begin("base", 50.0)
    hours.see(WorkerState(150.0, "a", "gone", "GPU", 2.0))
    assert [stage.devices for stage in hours.until(160.0)] == [(), (), (DeviceTime("base", "GPU", 40.0, 40.0),)]


@pytest.mark.parametrize("step", [-3600.0, 3600.0])
def test_a_clock_that_is_set_changes_no_hours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: float) -> None:
    """By an operator, or by NTP after the start, while a worker trains for 1000 s on 2 devices."""
    wall, passed = time.time(), [0.0]
    began = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: began + passed[0])
    monkeypatch.setattr(time, "time", lambda: wall + passed[0] + (step if passed[0] > 400 else 0.0))
    records: list[WorkerState] = []
    ledger = Ledger(Folder(tmp_path), "1", lambda params, tokens: None)
    run = RunFolder(Folder(tmp_path), Config(**PLAIN))
    ledger.begin("ladder")
    run.event("stage begins", stage="ladder")
    log = UsageLog("GPU", records.append)
    log.begin("a", 2.0, False)
    log.works("a", "train")
    log.beat("a", None)
    passed[0] = 500.0
    ledger.begin("base")
    run.event("stage begins", stage="base")
    passed[0] = 1000.0
    log.end("a")
    ledger.look(records, 2.0)
    truth = [("ladder", pytest.approx(1000.0, abs=0.1)), ("base", pytest.approx(1000.0, abs=0.1))]
    assert [(each.purpose, each.held) for stage in ledger.record.stages for each in stage.devices] == truth
    for one in records:
        run.event(EVENT, **event_of(one))
    run.flush()
    (lines,) = events(tmp_path)
    assert [(each.purpose, each.held) for stage in hours_in(lines) for each in stage.devices] == truth


def test_energy_is_divided_by_the_time_that_it_was_counted_over() -> None:
    hours = seen((60.0, "a", "train"))
    hours.see(WorkerState(140.0, "a", "gone", "GPU", 2.0, 800.0))
    ladder, evaluate = hours.until(200.0)
    assert (ladder.devices[0].joules, evaluate.devices[0].joules) == (400.0, 400.0)


def test_energy_says_which_workers_it_was_counted_for() -> None:
    """One of them has no counter; that of the other is first read a moment after its first change of state."""
    hours = seen((10.0, "a", "idle"), (20.0, "a", "train"), (10.0, "b", "train"))
    hours.see(WorkerState(50.0, "a", "train", "GPU", 2.0, 700.0))
    hours.see(WorkerState(60.0, "b", "gone", "GPU", 2.0))
    ladder, _ = hours.until(90.0)
    (spent,) = ladder.devices
    assert (spent.held, spent.counted, spent.joules) == (2 * (80 + 50), 2 * 80, 700.0)


def record(start: str, price: Price | None, held: float, device: str = "GPU") -> StartRecord:
    spent = DeviceTime("base", device, held * 3600, held * 1800, held * 3.6e6)
    stage = StageSpending("base", 1.0, 10, devices=(spent,), provisioned=8 * 3600.0)
    return StartRecord(start, 0.0, 1.0, "done", "0.2.0", (stage,), price)


def test_energy_of_some_starts_is_not_that_of_all() -> None:
    first, second = record("1", None, 10.0), record("2", None, 10.0)
    (stage,) = second.stages
    blind = replace(second, stages=(replace(stage, devices=(replace(stage.devices[0], joules=None),)),))
    usage = usage_of([first, blind])
    assert usage is not None
    (total,) = usage.total
    assert (total.energy_kwh, total.energy_hours, total.hours_held) == (10.0, 10.0, 20.0)
    assert energy(total).replace("\N{NO-BREAK SPACE}", " ") == "10 kWh (counted over 10 of 20 h)"
    whole = usage_of([first, second])
    assert whole is not None and energy(whole.total[0]).replace("\N{NO-BREAK SPACE}", " ") == "20 kWh"


SPOT = Price("GPU", 2.0, "USD", "spot")
FULL = replace(SPOT, per_hour=5.0, source="on-demand")


def test_every_start_is_paid_at_its_own_price() -> None:
    usage = usage_of([record("1", SPOT, 3.0), record("2", FULL, 1.0)])
    assert usage is not None
    (total,) = usage.total
    assert (total.hours_held, total.hours_used, total.energy_kwh, total.money) == (4.0, 2.0, 4.0, 3 * 2.0 + 1 * 5.0)
    assert (usage.hours_provisioned, usage.money_provisioned) == (16.0, 8 * 2.0 + 8 * 5.0)
    assert usage.prices == (SPOT, FULL) and usage.currency == "USD"


@pytest.mark.parametrize("other", [None, replace(FULL, currency="EUR"), replace(FULL, device="CPU")])
def test_money_is_unknown_where_a_part_of_it_is(other: Price | None) -> None:
    usage = usage_of([record("1", SPOT, 3.0), record("2", other, 1.0)])
    assert usage is not None
    assert usage.total[0].money is None and usage.total[0].hours_held == 4.0


def test_starts_that_did_not_count_hours_are_said() -> None:
    old = StartRecord("0", 0.0, 1.0, "done", "0.1.0", (StageSpending("ladder", 1.0, 10),))
    assert usage_of([old]) is None
    usage = usage_of([old, record("1", None, 1.0)])
    assert usage is not None and usage.uncounted_starts == 1 and usage.total[0].money is None


def test_a_record_of_an_older_splitray_is_read() -> None:
    """As the first splitray with a ledger wrote it."""
    stage = {"stage": "ladder", "seconds": 1.0, "tokens": 5, "flops": 30.0, "training_seconds": 1.0, "failures": 0}
    plain = {"start": "1", "began": 0.0, "written": 1.0, "ended": "done", "splitray": "0.1.0", "stages": [stage]}
    assert StartRecord.parse(plain, "x").stages == (StageSpending("ladder", 1.0, 5, 30.0, 1.0, 0),)
