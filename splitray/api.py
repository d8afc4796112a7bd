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
    from splitray.draft.draft import Draft
    from splitray.pipeline.dry_run_result import DryRun
    from splitray.pipeline.job import Job
    from splitray.pipeline.result import RunResult
    from splitray.pipeline.run_folder import RunFolder
    from splitray.proof.forecast import Forecast
    from splitray.proof.scoring import Proof
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
    with engines_needed("splitray.run"):
        from splitray.pipeline.result import RunResult

        folder, where = _carry_out(config, until, run_dir, store, log)
        return RunResult.of(folder, where, until)


def forecast(
    config: Config | str | Path,
    *,
    run_dir: str | Path | None = None,
    store: str | Path | None = None,
    log: Callable[[str], object] | None = None,
) -> Forecast:
    """Say what the law predicts of several splits of the budget, and seal it in the run folder.

    The stages up to the plan are run where they are missing. A forecast that an earlier call has sealed is given back.
    `prove` scores it. `proof.fractions` of the configuration names the splits, beside the planned one and unsplit.

    Args:
        config: a configuration, or the path of its YAML file.
        run_dir: path or URI of the run folder; default as for `run`.
        store: path or URI of the store of segments; default as for `run`.
        log: is called with every line of progress.

    Returns:
        The forecast: losses with intervals, the plan and the whole curve; also in `proof/forecast.json`.

    Raises:
        UserError: the input is wrong, RAY_ADDRESS names no cluster, or an engine is not installed.
        StageError: a stage failed; the message lists its failed units.
        StorageError: the run folder or the store cannot be read or written.
        CorruptError: the sealed forecast was changed.
    """
    with engines_needed("splitray.forecast"):
        from splitray.pipeline.prove import read_forecast, sealed_forecast

        folder, _ = _carry_out(config, "plan", run_dir, store, log, sealed_forecast)
        return read_forecast(folder.folder)


def prove(
    config: Config | str | Path,
    *,
    run_dir: str | Path | None = None,
    store: str | Path | None = None,
    log: Callable[[str], object] | None = None,
) -> Proof:
    """Find out whether the plan is right: forecast several splits, train them at equal tokens, score both.

    The forecast is sealed before any of the splits is trained. What the store held by then does not count. Segments
    are those of the run's own tree, so whatever a run has trained is reused, and the other way round.

    Args:
        config: a configuration, or the path of its YAML file.
        run_dir: path or URI of the run folder; default as for `run`.
        store: path or URI of the store of segments; default as for `run`.
        log: is called with every line of progress.

    Returns:
        The proof: predicted and measured losses, the plan's regret, errors of the differences to unsplit, and how
        often the intervals held; also in `proof/proof.json`, with the figure `proof/bowl.png`.

    Raises:
        UserError: the input is wrong, RAY_ADDRESS names no cluster, or an engine is not installed.
        StageError: a stage failed; the message lists its failed units.
        StorageError: the run folder or the store cannot be read or written.
        CorruptError: the sealed forecast was changed.
    """
    with engines_needed("splitray.prove"):
        from splitray.pipeline.prove import prove as work
        from splitray.pipeline.prove import read_proof

        folder, _ = _carry_out(config, "plan", run_dir, store, log, work)
        return read_proof(folder.folder)


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


def draft_config(
    folder: str | Path, *, minutes: float = 30.0, domains: int | None = None, text_column: str | None = None
) -> Draft:
    """Look at a folder of text, and propose a configuration that it and the time at hand allow.

    A sample is read, clustered and tokenized, and the training speed of this machine is measured, in about a minute.
    Ray is not started, and nothing is written.

    Args:
        folder: of text, JSON, CSV, Parquet or Arrow files; a file, a glob or a URI will do.
        minutes: how long the run may take on this machine.
        domains: K; by default what the sample suggests.
        text_column: of the tables; by default `text`, else the only column with long text.

    Returns:
        The draft: `config` for `run`, `yaml()` with a comment for every choice, `foretold` for its time.

    Raises:
        UserError: the folder holds too little text or none, it is no folder of text, several columns may hold the
            text, or `minutes` are too few for the smallest run.
        StageError: the training speed could not be measured.
    """
    with engines_needed("splitray.draft_config"):
        from splitray.draft.draft import draft

        return draft(folder, minutes, domains, text_column)


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


def _carry_out(
    config: Config | str | Path,
    until: str,
    run_dir: str | Path | None,
    store: str | Path | None,
    log: Callable[[str], object] | None,
    then: Callable[[Job], object] | None = None,
) -> tuple[RunFolder, str]:
    """Do what a run lacks up to a stage, and then what comes after it; the run folder, and the store's address."""
    from splitray.pipeline.logs import logged_to
    from splitray.pipeline.places import places
    from splitray.pipeline.run_folder import STAGES, RunFolder
    from splitray.pipeline.start import interruptible, start
    from splitray.storage.folder import Folder

    check_choice("stage", until, STAGES)
    settings = _config(config)
    address, where = places(settings, _text(run_dir), _text(store))
    with ExitStack() as stack:
        if log is not None:
            stack.enter_context(logged_to(log))
        folder = RunFolder(Folder(address), settings)
        stack.enter_context(logged_to(lambda line: folder.event("log", text=line)))
        start(folder, where, until, interruptible, then)
    return folder, where


def _config(config: Config | str | Path) -> Config:
    from splitray.config import load

    return load(config) if isinstance(config, str | Path) else config


def _text(address: str | Path | None) -> str | None:
    return None if address is None else str(address)
