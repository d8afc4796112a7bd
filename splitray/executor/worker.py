"""Ray workers of the loop: long-lived actors that train in process, and worker groups of Ray Train V2.

A worker holds no truth: it asks the store, trains, publishes. One actor class serves the ladder's pool and the
per-domain specialists; where a segment asks for more workers than one, the actor launches a `TorchTrainer` group and
holds no CPU itself.
"""

import contextlib
import math
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import ray

from splitray.errors import SplitrayError
from splitray.evaluate.exams import Exam
from splitray.evaluate.exams.answers import answer
from splitray.evaluate.measure import measure
from splitray.executor.compat import quiet_train_reports
from splitray.executor.failures import lost_by
from splitray.executor.gpu import check_own_gpu
from splitray.executor.machine import peak_flops
from splitray.executor.metrics import (
    BY_WORKER,
    CHECKPOINT_STALL,
    DATA_WAIT,
    GRADIENT_NORM,
    LOSS,
    MEMORY,
    MFU,
    TOKENS,
    TOKENS_PER_SECOND,
)
from splitray.executor.relay import relay
from splitray.executor.schedule import Scheduler
from splitray.executor.watch import PATIENCE, Watch, coordinator_of
from splitray.runtime.points import Point
from splitray.storage.keys import SegmentKey
from splitray.storage.store import Published, Store
from splitray.training.feed import reach
from splitray.training.loop import Hooks, Interrupted, Progress, threads, train
from splitray.training.settings import TrainingSettings
from splitray.training.tree import Segment

# How long a rank waits for the others in a collective. A state of 168 GB (14B parameters) took 40 minutes by reckoning
# to write on a slow disk, and Ray's own 30 minutes would end the group. Ranks that die are found by their silence.
_COLLECTIVE_SECONDS = 7200


@dataclass(frozen=True)
class RunContext:
    """What every worker of a run shares: where the data and the store are, and how to train.

    A worker that says nothing for `silence_seconds` is replaced. `start` names this start of the run, and `run` the
    run itself. `flops_per_token` are those of training, by N of the model. Where a run has models of several
    tokenizers, `corpora` has the keys of all its corpora, by the content hash that a recipe names. With a `scheduler`
    the longest way goes first, and as many workers train a segment as it says; without, who came first, and one.
    Workers that are idle for `idle_seconds` are let go. A group of the kinds `base` and `specialist` goes on with the
    `fewest` workers of its kind where nodes are missing for `resize_seconds`, see `Elastic`.
    """

    store: Store
    corpus: str
    training: TrainingSettings
    namespace: str
    use_gpu: bool = False
    silence_seconds: float = 60.0
    start: str = ""
    run: str = ""
    flops_per_token: Mapping[int, float] = field(default_factory=dict)
    scheduler: Scheduler | None = None
    idle_seconds: float = 60.0
    corpora: Mapping[str, str] = field(default_factory=dict)
    fewest: Mapping[str, int | None] = field(default_factory=dict)
    resize_seconds: float = 60.0

    @property
    def worker_resources(self) -> dict[str, float]:
        """What one worker needs of a node."""
        cpus = {"CPU": self.training.worker_cpus}
        return cpus | {"GPU": 1.0} if self.use_gpu else cpus

    def corpus_of(self, content_hash: str) -> str:
        """The key of the corpus that a recipe names."""
        return self.corpora.get(content_hash, self.corpus)


class Meter:
    """Progress to the coordinator (one line of the job log) and to Ray's metrics.

    Args:
        workers: that train together, whose first rank this process is.
    """

    def __init__(self, context: RunContext, worker: str, workers: int = 1) -> None:
        self._context, self._worker = context, worker
        self._coordinator = coordinator_of(context.namespace)
        self._peak = workers * peak_flops(context.use_gpu)
        self._metrics = {metric: metric.open() for metric in BY_WORKER}
        self._attempt, self._last = "", Last()

    def __call__(self, progress: Progress) -> None:
        segment, last = progress.segment, self._last
        if segment.key != last.segment or progress.trained <= last.trained:  # taken up now, or once more
            self._attempt, last = uuid.uuid4().hex, Last()
        self._measure(progress, last)
        self._last = Last(segment.key, progress.trained, progress.data_wait, progress.checkpoint_stall)
        said = {"segment": segment.key, "source": segment.source, "params": segment.recipe.params}
        said |= {"tokens": progress.tokens - segment.start, "of": segment.tokens}
        said |= {"loss": progress.loss, "rate": progress.tokens_per_second}
        said |= {"attempt": self._attempt, "trained": progress.trained}
        point = Point(
            segment.key,
            SegmentKey.parse(segment.key).lineage[:8],
            segment.source,
            segment.recipe.params,
            progress.tokens,
            progress.loss,
            progress.learning_rate,
            progress.tokens_per_second,
        )
        self._coordinator.note.remote(self._worker, said, point)

    def _measure(self, progress: Progress, last: "Last") -> None:
        params, source = progress.segment.recipe.params, progress.segment.source
        tags = {"run": self._context.run, "worker": self._worker, "source": source, "params": str(params)}
        metrics = self._metrics
        metrics[LOSS].set(progress.loss, tags)
        metrics[TOKENS_PER_SECOND].set(progress.tokens_per_second, tags)
        if math.isfinite(progress.gradient_norm):
            metrics[GRADIENT_NORM].set(progress.gradient_norm, tags)
        metrics[MEMORY].set(progress.memory, tags)
        per_token = self._context.flops_per_token.get(params)
        if self._peak and per_token is not None:
            metrics[MFU].set(progress.tokens_per_second * per_token / self._peak, tags)
        for metric, now, before in (
            (TOKENS, progress.trained, last.trained),
            (DATA_WAIT, progress.data_wait, last.data_wait),
            (CHECKPOINT_STALL, progress.checkpoint_stall, last.checkpoint_stall),
        ):
            if now > before:  # a counter refuses to grow by nothing
                metrics[metric].inc(now - before, tags)


@dataclass(frozen=True)
class Last:
    """What a meter has counted of a segment."""

    segment: str = ""
    trained: int = 0
    data_wait: float = 0.0
    checkpoint_stall: float = 0.0


@lru_cache(maxsize=4)
def _corpus(store: Store, key: str) -> Any:
    from splitray.corpus import Corpus

    return Corpus.open(store, key)


@lru_cache(maxsize=1)  # the maps of another order would take room of the cache from this one's
def _order(
    store: Store,
    corpus: str,
    weights: tuple[tuple[str, float], ...],
    length: int,
    seed: int,
    shuffle_tokens: int | None,
) -> Any:
    from splitray.training.data import Order

    shards = _corpus(store, corpus)
    return Order({n: shards.mapped(n, "train") for n in shards.domains}, dict(weights), length, seed, shuffle_tokens)


def order_of(context: RunContext, segment: Segment) -> Callable[[], Any]:
    """What opens the data order of a segment. It is kept in this process, with the shards of its domains only.

    Raises (when called):
        StorageError: this machine's cache cannot hold the shards that the segment draws from.
    """
    return partial(_opened, context, segment)


def _opened(context: RunContext, segment: Segment) -> Any:
    recipe = segment.recipe
    weights = tuple(sorted(recipe.weights.items()))
    corpus = context.corpus_of(recipe.corpus)
    order = _order(context.store, corpus, weights, recipe.sequence_length, recipe.seed, recipe.shuffle_tokens)
    needed = order.at_once(segment.sources, **reach(recipe.global_batch_size))
    for name in set(order.names) - set(needed):
        for shard in order.shards(name):
            shard.close()  # or the cache would have to keep what an earlier segment drew from
    _corpus(context.store, corpus).check_room(needed, "train")
    return order


def brief(published: Published) -> dict[str, Any]:
    """What travels back to the coordinator: the marker's metadata but for the recipe, which the coordinator has."""
    return {k: v for k, v in published.meta.items() if k not in ("recipe", "phases")}


class Worker:
    """A named actor that trains segments and measures losses, one at a time.

    Args:
        name: what the dashboard and the log call it, e.g. `ladder[0]` or `specialist[3_court_statute]`.
        workers: 1 trains in this process; more launch a worker group for every call.
        birth: see `Watch`.
    """

    def __init__(self, context: RunContext, name: str, workers: int = 1, birth: str = "") -> None:
        self._context, self._name, self._workers, self._birth = context, name, workers, birth
        self._watch = Watch(context.namespace, name, birth)  # first: the imports below take seconds
        relay(coordinator_of(context.namespace).log.remote)
        if workers == 1:
            import transformers  # noqa: F401 - an actor pays its imports once, before the first segment

            from splitray.training.process import join_world, keep_memory

            keep_memory()
            join_world()  # imports DeepSpeed
            self._meter = Meter(context, name)

    def train(self, segments: Sequence[Segment]) -> list[dict[str, Any]]:
        """Train segments in the order given; the metadata of each.

        A stop ends in `Interrupted`, with a checkpoint.
        """
        if self._workers > 1:
            return train_in_group(self._context, self._name, segments, self._workers, self._birth)
        self._check_gpu()
        hooks = Hooks(
            self._meter, self._watch, start=self._context.start, provenance=_made_by(self._context, self._name)
        )
        with self._watch.on_sigterm(), threads(self._context.training.threads):
            return list(_train_all(self._context, segments, hooks))

    def losses(self, key: str, domains: Sequence[str], limit: int) -> dict[str, dict[str, float]]:
        """Validation losses of a published segment on some domains; measured once, then read from the store."""
        self._check_gpu()
        with threads(self._context.training.threads):
            return measure(self._context.store, self._corpus_of(key), key, domains, limit, self._device)

    def answers(self, key: str, exams: Sequence[Exam]) -> None:
        """Have a published segment take some exams; measured once, then in the store."""
        self._check_gpu()
        corpus = self._corpus_of(key)
        with threads(self._context.training.threads):
            for exam in exams:
                answer(self._context.store, corpus, key, exam, self._device)

    @property
    def _device(self) -> str:
        return "cuda" if self._context.use_gpu else "cpu"

    def _corpus_of(self, key: str) -> Any:
        """The corpus that a published segment was trained on."""
        content = self._context.corpus
        if self._context.corpora and (published := self._context.store.find(key)) is not None:
            content = self._context.corpus_of(published.recorded("recipe")["corpus"])
        return _corpus(self._context.store, content)

    def _check_gpu(self) -> None:
        """In every call, not at the start: an error there is taken for a death, and the worker started five times."""
        if self._context.use_gpu:
            check_own_gpu()


def _made_by(context: RunContext, worker: str) -> dict[str, Any]:
    """What a segment's marker says of its worker; speeds that it shows are those of this kind of device."""
    return {"worker": worker, "gpu": context.use_gpu}


def _train_all(context: RunContext, segments: Sequence[Segment], hooks: Hooks) -> Iterator[dict[str, Any]]:
    for segment in segments:
        yield brief(train(segment, order_of(context, segment), context.store, context.training, hooks))


def train_in_group(
    context: RunContext, name: str, segments: Sequence[Segment], workers: int, birth: str = ""
) -> list[dict[str, Any]]:
    """Train segments on a Ray Train worker group that starts once and trains them one after another."""
    from ray.train import FailureConfig, LoggingConfig, PreemptionError, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchConfig, TorchTrainer

    resources = context.worker_resources
    # Ray Train keeps only its own run state there (no checkpoint is ever reported), but insists on a place
    # that every node reaches: on a local store that is the store's own disk.
    lineage = SegmentKey.parse(segments[0].key).lineage[:8]
    storage, run = context.store.root / "ray_train", f"{name}-{lineage}-{int(time.time() * 1000)}"
    trainer = TorchTrainer(
        _group_loop,
        train_loop_config={"context": context, "name": name, "birth": birth, "segments": list(segments)},
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=context.use_gpu, resources_per_worker=resources),
        torch_config=TorchConfig(backend="nccl" if context.use_gpu else "gloo", timeout_s=_COLLECTIVE_SECONDS),
        run_config=RunConfig(
            name=run,
            storage_path=storage.path,
            storage_filesystem=storage.filesystem,
            # the coordinator starts it again, as any other worker, whether it failed or its node was taken away
            failure_config=FailureConfig(max_failures=0, max_preemption_failures=0),
            logging_config=LoggingConfig(log_level="WARNING"),  # at INFO its controller tells of every start
        ),
    )
    try:
        trainer.fit()
    except TrainingFailedError as error:
        reported = ray.get(coordinator_of(context.namespace).take_error.remote(name), timeout=PATIENCE)
        kind = Interrupted if isinstance(error, PreemptionError) else lost_by(error)
        raise reported or kind(f"worker group {name}: {error}") from error
    finally:
        storage.delete(run)
    published = [p for s in segments if (p := context.store.find(s.key)) is not None]
    if len(published) < len(segments):
        raise Interrupted(f"worker group {name} ended after {len(published)} of {len(segments)} segments")
    return [brief(p) for p in published]


def _group_loop(config: dict[str, Any]) -> None:
    """What every worker of a group runs: the same loop, its rank taken from the process group."""
    import ray.train

    from splitray.training.process import keep_memory

    keep_memory()
    quiet_train_reports()
    context: RunContext = config["context"]
    relay(coordinator_of(context.namespace).log.remote)
    group = ray.train.get_context()
    rank, name = group.get_world_rank(), f"{config['name']}.{group.get_world_rank()}"
    os.environ.setdefault("LOCAL_RANK", str(group.get_local_rank()))
    meter = Meter(context, config["name"], group.get_world_size()) if rank == 0 else lambda progress: None
    watch = Watch(context.namespace, config["name"], config["birth"], rank)
    with contextlib.closing(watch), watch.on_sigterm(), threads(context.training.threads):
        hooks = Hooks(meter, watch, start=context.start, provenance=_made_by(context, name))
        try:
            if context.use_gpu:
                check_own_gpu()
            for meta in _train_all(context, config["segments"], hooks):
                ray.train.report({"tokens": meta["end"], "loss": meta.get("train_loss")})
        except SplitrayError as error:
            # told apart from a lost process, and raised, so that ranks which wait for this one are ended too
            ray.get(coordinator_of(context.namespace).report_error.remote(config["name"], error), timeout=PATIENCE)
            raise
