"""One run from its start to its end, for the command line and for `splitray.run` alike."""

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from splitray.pipeline.exams import stands
from splitray.pipeline.run_folder import STAGES, RunFolder
from splitray.storage.redact import without_query

if TYPE_CHECKING:
    from splitray.pipeline.job import Job

_log = logging.getLogger(__name__)

_SET_BY_OTHERS = ("RAY_", "PYTHONBREAKPOINT", "TOKENIZERS_PARALLELISM")  # beginnings of names
_imported_with_token: list[bool] = []  # whether Ray was imported here, in this process, under RAY_AUTH_MODE=token

Watch = Callable[[Callable[[], object], Callable[[], None]], None]


def start(run: RunFolder, store: str, until: str, watch: Watch, then: "Callable[[Job], object] | None" = None) -> None:
    """Do what a run still lacks up to a stage. A finished run starts no Ray.

    Args:
        store: address of the store.
        then: what is done after that stage, in the same cluster.
        watch: is called with the work, and with what has the workers write their checkpoints. It calls the first, and
            the second where the run is to stop.
    """
    _log.info("run folder %s, store %s", run.folder.uri, without_query(store))
    if then is None and all(stands(run, stage) for stage in run.stages(until)):
        _log.info("every stage up to %s is done: nothing to train", until)
        return
    with token_asked_for():
        from splitray.executor.connect import connected
        from splitray.pipeline.alerts import alerted
        from splitray.pipeline.job import Job
        from splitray.pipeline.metering import metered
        from splitray.pipeline.tracking import tracked
        from splitray.storage.store import Store

        with alerted(run), tracked(run), connected():
            check_router(run, until)
            job = Job(run, Store(store))
            try:
                with metered(job):
                    watch(lambda: _work(job, until, then), job.stop)
            finally:
                run.flush()


def _work(job: "Job", until: str, then: "Callable[[Job], object] | None") -> None:
    from splitray.pipeline.runner import go

    go(job, until)
    if then is not None:
        then(job)


def interruptible(work: Callable[[], object], stop: Callable[[], None]) -> None:
    """The watch that leaves signals alone: Ctrl-C (in a notebook: Interrupt) stops the run."""
    try:
        work()
    except KeyboardInterrupt:
        stop()
        raise


@contextmanager
def token_asked_for() -> Iterator[None]:
    """Have a Ray that is started in the block refuse whoever lacks the token. The environment is as before after it.

    Ray reads RAY_AUTH_MODE once in a process, when it is imported; the processes that it starts read it anew. Where
    the user has set it, or has imported Ray without it, it stays as it is: the two must agree. What Ray and the
    tokenizer set in the environment (`_SET_BY_OTHERS`) is as before again at the end.
    """
    before = dict(os.environ)
    if "RAY_AUTH_MODE" not in before and ("ray" not in sys.modules or _imported_with_token):
        _imported_with_token.append(True)
        os.environ["RAY_AUTH_MODE"] = "token"
    try:
        yield
    finally:
        for name in [name for name in os.environ if name.startswith(_SET_BY_OTHERS)]:
            if name in before:
                os.environ[name] = before[name]
            else:
                del os.environ[name]


def check_router(run: RunFolder, until: str) -> None:
    """Load the router's embedder before anything is paid for: the evaluation, which comes last, needs it here."""
    evaluates = STAGES.index("evaluate") <= STAGES.index(until) and run.done("evaluate") is None
    if evaluates:
        from splitray.corpus import router

        router.check_router(run.config.corpus)
