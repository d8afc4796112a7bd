"""The public door: what `import splitray` gives beside the law and the planner. Nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from splitray.errors import check_choice
from splitray.runtime.extras import engines_needed

if TYPE_CHECKING:
    from splitray.config import Config
    from splitray.corpus import Corpus, CorpusSettings
    from splitray.pipeline.dry_run_result import DryRun
    from splitray.pipeline.result import RunResult
    from splitray.storage.store import Store


def run(
    config: Config | str | Path,
    *,
    until: str = "report",
    run_dir: str | Path | None = None,
    store: str | Path | None = None,
    log: Callable[[str], object] | None = None,
) -> RunResult:
    """Carry a configuration out: corpus, ladder, law, plan, search, base, specialists, evaluation, report.

    What a run folder already holds is not done again. A Ray that this process has joined is used; else one is joined
    or started as RAY_ADDRESS says, and left again at the end. Signals, PATH and the environment stay as they are.
    Ctrl-C (in a notebook: Interrupt) has the workers write checkpoints; the same call continues from them.

    Args:
        config: a configuration, or the path of its YAML file.
        until: the last stage to run: corpus, ladder, law, plan, search, base, specialists, evaluate or report.
        run_dir: path or URI of the run folder; default as the configuration says, else `runs/NAME`.
        store: path or URI of the store of segments; default as the configuration says, else beside the run folder.
        log: is called with every line of progress, for instance `print`. They also go to the logger `splitray`, and
            to the events in the run folder.

    Returns:
        The run's paths, plan, losses, figures and summary.

    Raises:
        UserError: the input is wrong, RAY_ADDRESS names no cluster, or an engine is not installed.
        StageError: a stage failed; the message lists its failed units.
        StorageError: the run folder or the store cannot be read or written.
    """
    with engines_needed("splitray.run"), ExitStack() as stack:
        from splitray.pipeline.logs import logged_to
        from splitray.pipeline.places import places
        from splitray.pipeline.result import RunResult
        from splitray.pipeline.run_folder import STAGES, RunFolder
        from splitray.pipeline.start import interruptible, start
        from splitray.storage.folder import Folder

        check_choice("stage", until, STAGES)
        settings = _config(config)
        address, where = places(settings, _text(run_dir), _text(store))
        if log is not None:
            stack.enter_context(logged_to(log))
        folder = RunFolder(Folder(address), settings)
        stack.enter_context(logged_to(lambda line: folder.event("log", text=line)))
        start(folder, where, until, interruptible)
        return RunResult.of(folder, where, until)


def dry_run(
    config: Config | str | Path, *, run_dir: str | Path | None = None, store: str | Path | None = None
) -> DryRun:
    """Say what a run would train and what it would cost. Needs no data and no cluster.

    Args:
        config: a configuration, or the path of its YAML file.
        run_dir: path or URI of the run folder, which may hold a plan; default as for `run`.
        store: path or URI of the store, whose segments count as reused; default as for `run`.

    Returns:
        The tree by stages with tokens, FLOPs, disk and time; `print` shows it as a table.

    Raises:
        UserError: the configuration is wrong, or an engine is not installed.
    """
    with engines_needed("splitray.dry_run"):
        from splitray.pipeline.dry_run import foresee
        from splitray.pipeline.places import places
        from splitray.pipeline.standing import Standing

        settings = _config(config)
        address, where = places(settings, _text(run_dir), _text(store))
        return foresee(settings, where, Standing.of(settings, address, where))


def build_corpus(settings: Config | CorpusSettings, store: Store | str | Path, seed: int | None = None) -> Corpus:
    """Build a corpus in a store, or find it there: read, clean, embed, cluster, tokenize, shards by domain.

    Ray is used, joined or started as by `run`.

    Args:
        settings: the section `corpus` of a configuration, or all of one.
        store: the store, or its path or URI.
        seed: of clustering and of the hold-out; default the configuration's, else 0.

    Returns:
        The corpus: its domains, token shards, documents and router.

    Raises:
        UserError: a source does not exist or cannot be read, or an engine is not installed.
        StageError: a pass over the corpus failed.
    """
    with engines_needed("splitray.build_corpus"):
        from splitray.config import Config
        from splitray.corpus import build_corpus as build
        from splitray.pipeline.start import token_asked_for
        from splitray.storage.store import Store

        if isinstance(settings, Config):
            corpus, default = settings.corpus, settings.seed
        else:
            corpus, default = settings, 0
        with token_asked_for():
            from splitray.executor.connect import connected

            with connected():
                return build(
                    corpus, default if seed is None else seed, store if isinstance(store, Store) else Store(store)
                )


def _config(config: Config | str | Path) -> Config:
    from splitray.config import load

    return load(config) if isinstance(config, str | Path) else config


def _text(address: str | Path | None) -> str | None:
    return None if address is None else str(address)
