"""Words for work that the cluster does not start: who holds what it needs, or that no node can ever have it."""

import logging
import math
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import ray
from ray.exceptions import RayError

from splitray.executor.compat import Holder, Launch, holders, launches, unplaced
from splitray.units import counted

_log = logging.getLogger(__name__)

LATE = 10  # seconds of waiting, after which the user is told
AGAIN = 60  # seconds until the user is told again
_LOOK = 2.0  # seconds between looks
_REASON = 300  # characters of a provider's reason
_UNITS = {"CPU": "CPU", "GPU": "GPU"}


def impossible(waiting: list[dict[str, float]], nodes: Sequence[Mapping[str, float]]) -> str | None:
    """What some work asks of one node and no node has, in words; None where every shape fits a node.

    Args:
        waiting: shapes that wait, see `compat.unplaced`.
        nodes: the resources of every node.
    """
    for shape in waiting:
        asked = {name: amount for name, amount in shape.items() if ":" not in name and "_group_" not in name}
        if any(all(node.get(name, 0.0) >= amount for name, amount in asked.items()) for node in nodes):
            continue
        most = {name: max((node.get(name, 0.0) for node in nodes), default=0.0) for name in asked}
        return f"work asks one node for {_amounts(asked)}, and no node has it (at most {_amounts(most)})"
    return None


def _amounts(shape: Mapping[str, float]) -> str:
    def one(name: str, amount: float) -> str:
        if name == "memory":
            return f"{amount / 2**30:.1f} GiB of memory"
        amount = math.ceil(amount) if amount > 1 else amount  # a worker asks for a little less than its threads
        return f"{amount:g} {_UNITS.get(name, name)}{'s' if name in _UNITS and amount != 1 else ''}"

    return ", ".join(one(name, amount) for name, amount in sorted(shape.items()))


def node_resources() -> list[Mapping[str, float]]:
    """The resources of every node that is alive."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def hint(what: str, waiting: list[dict[str, float]] | None, unit: str, namespace: str) -> str:
    """Why some work waits, in one sentence.

    Args:
        what: waits.
        unit: "CPU" or "GPU".
        namespace: of this run, in Ray.
    """
    if waiting and (said := autoscaling(what, launches())):
        return said
    if waiting and (never := impossible(waiting, node_resources())):
        return (
            f"{what} cannot start: {never}. Lower training.threads or the workers, or start larger nodes; a cluster "
            "that grows by itself may still add one"
        )
    return f"waiting for a free {unit} for {what}, held by {describe(holders(unit), namespace)}"


def autoscaling(what: str, asked: list[Launch]) -> str | None:
    """What an autoscaler does for some work that waits, in one sentence; None where it does nothing.

    Types that cannot be had come before those that are being started: these may be for other work.
    """
    failed = {launch.node_type: launch.failure for launch in asked if launch.failure}
    pending = Counter[str]()
    for launch in asked:
        pending[launch.node_type] += 0 if launch.failure else launch.count
    starts = ", ".join(f"{counted(count, 'node')} of type {kind}" for kind, count in pending.items() if count)
    if failed:
        reasons = "; ".join(f"{kind}: {' '.join(reason.split())[:_REASON]}" for kind, reason in failed.items())
        meanwhile = f" Meanwhile it starts {starts}." if starts else ""
        return (
            f"{what} waits for nodes that the autoscaler could not start. {reasons}. It tries again.{meanwhile} If it "
            "goes on, look at the quota and the zone, or add another node type to the cluster's file"
        )
    return f"{what} waits for the autoscaler, which is starting {starts}" if starts else None


def describe(found: list[Holder], namespace: str) -> str:
    """Who holds the cluster, in words: the workers of this run, then those of others."""
    owners = {h.job: h.namespace for h in found if _is_run(h.namespace)}
    runs: dict[str, list[str]] = {}
    for holder in found:
        of = holder.namespace if _is_run(holder.namespace) else owners.get(holder.job, "")
        run = "another job" if not of else "this run" if of == namespace else f"run {of.split('/')[1]}"
        runs.setdefault(run, []).append(holder.name or "an actor")
    named = [f"{', '.join(sorted(names))} of {run}" for run, names in sorted(runs.items(), key=lambda r: r[0])]
    return "; ".join(named) or "tasks, or workers that are being started"


def _is_run(namespace: str) -> bool:
    parts = namespace.split("/")
    return len(parts) == 3 and parts[0] == "splitray"


@contextmanager
def waiting_said(what: str) -> Iterator[None]:
    """Warn while tasks of the block wait, since actors of others hold every CPU or since no node is large enough.

    Tasks of others are no reason: they end, and the next task is as likely ours.
    """
    over = threading.Event()

    def look() -> None:
        stuck = 0.0
        told = -float(AGAIN)
        now = 0.0
        while not over.wait(_LOOK):
            now += _LOOK
            try:
                sentence = _stuck(what)
            except RayError:  # the control store does not answer: the next look will do
                continue
            stuck = stuck + _LOOK if sentence else 0.0
            if sentence and stuck >= LATE and now - told >= AGAIN and not over.is_set():
                told = now
                _log.warning("%s", sentence)

    looker = threading.Thread(target=look, daemon=True, name="waiting")
    looker.start()
    try:
        yield
    finally:
        over.set()
        looker.join(timeout=_LOOK)


def _stuck(what: str) -> str | None:
    waiting = unplaced()
    if not waiting:
        return None
    if impossible(waiting, node_resources()) is None:
        held, job = holders("CPU"), ray.get_runtime_context().get_job_id()
        most = sum(node.get("CPU", 0.0) for node in node_resources())
        if any(h.job == job for h in held) or not held or sum(h.amount for h in held) <= most - 1:
            return None
    return hint(what, waiting, "CPU", "")
