"""`splitray export RUN`: model cards for a run's models, and with `--moe` one model with experts made of them."""

import argparse
from typing import TYPE_CHECKING

from rich.table import Table

from splitray.cli.command import Command, whole
from splitray.cli.terminal import terminal
from splitray.errors import UserError
from splitray.export.facts import between, tuned_text
from splitray.results.folders import MOE
from splitray.storage.folder import Folder
from splitray.storage.store import Store
from splitray.units import human

if TYPE_CHECKING:
    from splitray.results.merged import MergedEvaluation
    from splitray.training.loop import Progress

_EVERY = 10.0  # seconds between lines of progress


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="path or URI of a finished run's folder")
    parser.add_argument("--store", metavar="STORE", help="the run's store; default as its configuration says")
    parser.add_argument("--moe", action="store_true", help="merge the specialists into one model with experts")
    parser.add_argument("--out", metavar="FOLDER", help="where that model goes; default the folder moe of the run")
    parser.add_argument("--active", type=whole, default=2, metavar="K", help="experts that a token passes; default 2")
    parser.add_argument(
        "--shared",
        choices=("average", "base"),
        default="average",
        help="where attention, norms, embeddings and head are from: the specialists' mean, or the base",
    )
    parser.add_argument(
        "--router-tokens",
        type=whole,
        default=65536,
        metavar="N",
        help="training tokens of each domain that the routers are fitted on; default 65536",
    )
    parser.add_argument(
        "--tune-tokens",
        type=whole,
        default=0,
        metavar="N",
        help="tokens of the mixture that the routers alone are trained on afterwards, as a segment of the store; "
        "default 0: they stay as they were fitted",
    )


def _run(options: argparse.Namespace) -> None:
    from splitray.pipeline.passport import write_passports
    from splitray.pipeline.renew import renewed
    from splitray.pipeline.verify import is_run, store_of

    if options.router_tokens < 1:
        raise UserError(f"--router-tokens {options.router_tokens}: give a positive number")
    if options.tune_tokens < 0:
        raise UserError(f"--tune-tokens {options.tune_tokens}: give a number of tokens, or 0")
    if options.tune_tokens and not options.moe:
        raise UserError("--tune-tokens is for --moe: the other models are left as they are")
    folder = Folder(options.run)
    if not is_run(folder):
        raise UserError(f"{folder.uri} is no run folder: it has no config.yaml")
    store = Store(options.store or store_of(folder))
    run, anew = renewed(folder, store)
    for place in anew:
        print(f"written anew, with checksums: {folder.uri}/{place}")
    if options.moe:
        from splitray.pipeline.experts import MergeSettings, merge_run
        from splitray.training.loop import Hooks

        target = Folder(options.out) if options.out else folder / MOE
        settings = MergeSettings(options.active, options.shared, options.router_tokens, options.tune_tokens)
        show(merge_run(run, store, target, settings, Hooks(_said, every_seconds=_EVERY)))
        print(f"one model with experts: {target.uri}")
    elif options.out:
        raise UserError("--out is for --moe: the other models stay in the run folder")
    for written in write_passports(folder, run.models, Folder(options.out) if options.out else None):
        print(f"written: {written}")


def _said(progress: "Progress") -> None:
    """One line of the routers' training."""
    done, whole = progress.tokens, progress.segment.phases[-1].end
    speed = f"{progress.tokens_per_second:,.0f} tokens/s"
    print(f"routers: {done:,} of {whole:,} tokens, loss {progress.loss:.4f}, {speed}", flush=True)


def show(merged: "MergedEvaluation") -> None:
    """Print how a merged model does, as a table."""
    console = terminal()
    console.print(
        f"{merged.architecture}: {len(merged.experts)} experts, {merged.active} a token; {human(merged.params)} "
        f"parameters, {human(merged.active_params)} of them a token"
    )
    table = Table("model", "tokens", "nats a token", "bits a byte", "experts less this (95 %)")
    for row in merged.rows:
        gap = between(row.difference, "+.4f") if row.difference else ""
        tokens = "" if row.tokens is None else human(row.tokens)
        table.add_row(row.model, tokens, f"{row.loss:.4f}", f"{row.bits_per_byte:.4f}", gap)
    console.print(table)
    if merged.tuning is not None:
        console.print(tuned_text(merged.tuning))


COMMAND = Command(
    "Write model cards for the models of a run; with --moe also merge its specialists into one model with experts.",
    _add_arguments,
    _run,
    "It needs no cluster. --moe needs the run's store, which has the corpus.",
)
main = COMMAND.main
