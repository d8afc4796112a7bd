"""The corpus stage's only contact with Ray besides `pipeline`: run a function over items, or once, and get its rows."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import ray
from ray.data import ActorPoolStrategy, DataContext, ExecutionResources, TaskPoolStrategy
from ray.exceptions import RayError

from splitray.corpus.settings import CorpusSettings
from splitray.errors import SplitrayError, StageError
from splitray.runtime.progress import Progress, Task, report
from splitray.runtime.quiet import levels, without_lines
from splitray.units import duration

_log = logging.getLogger(__name__)

_QUICK = 3.0  # seconds: a task that ends sooner shows no progress
Row = dict[str, Any]
# Ray's C++ core calls it an error that an actor which may be restarted has arguments in the object store. Every pool of
# Ray Data's has: the pass holds them until it ends.
_ARGUMENTS = r"core_worker\.cc:.*has constructor arguments in the object store"


@contextmanager
def own_context() -> Iterator[None]:
    """Ray Data's settings within the block are a copy, and it shows neither bars nor lines: our own log tells these.

    So the passes change nothing for whoever uses Ray Data in the same process.
    """
    context = DataContext.get_current().copy()
    context.enable_progress_bars = False
    with DataContext.current(context), levels({"ray.data": logging.ERROR}):
        yield


class Engine:
    """Runs the passes, inside `own_context`, with the workers and the memory that the settings allow."""

    def __init__(self, settings: CorpusSettings) -> None:
        resources = ray.cluster_resources()
        cpus = max(int(resources.get("CPU", 1)), 1)
        # Not the CPUs of now: an autoscaling cluster may have none before a task waits for one.
        self.workers = settings.workers
        # Asking for more than there is would wait for ever; a share of the cluster's memory always fits.
        self.memory = int(min(settings.memory_gigabytes * 2**30, resources.get("memory", 2**40) / cpus))
        self._running: list[Any] = []
        self._names: dict[Any, str] = {}

    def over(self, name: str, work: Callable[[Row], Row], items: list[Row]) -> Iterator[Row]:
        """`work(item)` for every item as Ray Data tasks of one CPU, in the order in which they end."""
        _allow_gpus(False)
        dataset = ray.data.from_items(items, override_num_blocks=len(items)).map(
            _named(work, name),
            num_cpus=1,
            memory=self.memory,
            compute=TaskPoolStrategy(size=self.workers and min(self.workers, len(items))),
        )
        return self._rows(name, dataset, len(items))

    def over_actors(
        self, name: str, actor: type, arguments: tuple[Any, ...], items: list[Row], cpus: float, gpus: float
    ) -> Iterator[Row]:
        """As `over`, by a pool of actors that are made once: for models that take long to load."""
        _allow_gpus(gpus > 0)
        dataset = ray.data.from_items(items, override_num_blocks=len(items)).map(
            type(name.replace(" ", "_"), (actor,), {}),
            fn_constructor_args=arguments,
            num_cpus=cpus,
            num_gpus=gpus,
            compute=ActorPoolStrategy(min_size=1, max_size=min(self.workers or len(items), len(items))),
        )
        return self._rows(name, dataset, len(items), without_lines(_ARGUMENTS))

    def task(self, name: str, work: Callable[..., Any], *arguments: Any, gpus: float = 0.0) -> Any:
        """Start one task of one CPU, and of a GPU where it asks for one; `get` waits for what it returns."""
        options = {"name": f"corpus: {name}", "num_cpus": 1, "memory": self.memory, "num_gpus": gpus}
        reference = ray.remote(work).options(**options).remote(*arguments)
        self._running.append(reference)
        self._names[reference] = name
        return reference

    def stop(self) -> None:
        """Let the tasks of `task` end, for a minute at most; what they make is dropped.

        They are not cancelled: where `ray.cancel` meets a task that has just ended, Ray 2.60 ends the driver
        ("Tried to complete task that was not pending"; seen in one of some ten test runs, and the race described in
        https://github.com/ray-project/ray/pull/54798). The longest, the tokenizer's fit, reads a bounded sample.
        """
        running = self._running
        if running and ray.wait(running, num_returns=len(running), timeout=0)[1]:
            _log.info("corpus: waiting for the tasks that still run")
            ray.wait(running, num_returns=len(running), timeout=60)

    def get(self, reference: Any) -> Any:
        """What a task of `task` returns; progress says how long it has been waited for."""
        began = time.monotonic()
        while not ray.wait([reference], timeout=1.0)[0]:
            if (spent := time.monotonic() - began) > _QUICK:
                report(_log, Progress(self._names[reference], f"under way for {duration(spent)}"))
        try:
            return ray.get(reference)
        except RayError as error:
            raise _our_own(error) from error

    def _rows(
        self, name: str, dataset: Any, total: int, silence: AbstractContextManager[None] | None = None
    ) -> Iterator[Row]:
        task = Task(_log, name, total, "tasks")
        try:
            with silence or nullcontext():
                for count, row in enumerate(dataset.iter_rows(), start=1):
                    yield row
                    task.update(count)
        except RayError as error:
            raise _our_own(error) from error


def _allow_gpus(allowed: bool) -> None:
    """Ray Data has a busy cluster grow by a node of every type that its limits allow (2.60): without this one, idle
    GPU nodes would be started for passes of CPUs."""
    limits = ExecutionResources.for_limits(gpu=None if allowed else 0)
    DataContext.get_current().execution_options.resource_limits = limits


def _named(work: Callable[[Row], Row], name: str) -> Callable[[Row], Row]:
    """`work` under a name that the dashboard and the logs show."""

    def run(item: Row) -> Row:
        return work(item)

    run.__name__ = run.__qualname__ = name.replace(" ", "_")
    return run


def _our_own(error: RayError) -> SplitrayError:
    """The splitray error that a failed task carries (its message is for the user, Ray's trace is not), else a
    `StageError` of one line: a dead worker, a task killed for its memory, a bug. Ray's log has the trace."""
    cause: BaseException | None = error
    seen: BaseException = error
    while cause is not None:
        if isinstance(cause, SplitrayError) and not isinstance(cause, RayError):
            return cause
        seen, cause = cause, getattr(cause, "cause", None) or cause.__cause__
    reason = (str(seen).strip() or "no reason given").splitlines()[0]
    return StageError(f"corpus: a task failed: {type(seen).__name__}: {reason:.300}; the trace is in Ray's log")
