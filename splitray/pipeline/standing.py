"""What earlier starts left for a run: read without a cluster, and nothing is written."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from splitray.config import Config
from splitray.errors import SplitrayError, UserError
from splitray.law.planning.plan import Plan
from splitray.pipeline.precision import assumed
from splitray.pipeline.programme import CorpusFacts
from splitray.results.rates import Rates
from splitray.results.stages import CorpusResult, LadderResult, PlanResult, SearchResult, StageRecord
from splitray.storage.checksum import fingerprint
from splitray.storage.folder import Folder
from splitray.storage.redact import without_query
from splitray.storage.store import Store
from splitray.training.precision import PrecisionChoice
from splitray.training.split import Split

if TYPE_CHECKING:
    from splitray.corpus import Corpus


@dataclass(frozen=True)
class Standing:
    """What earlier starts left, in the run folder and in the store.

    Args:
        corpus: its facts, so that keys can be compared with the store: without it nothing counts as reused.
        precision: what a start would choose without measuring.
        searched: the splits that a finished search tried; None before it is done.
        note: why nothing is known.
        rates: the best learning rates by a finished sweep.
        built: the corpus itself.
    """

    plan: Plan | None = None
    corpus: CorpusFacts | None = None
    precision: PrecisionChoice | None = None
    searched: tuple[Split, ...] | None = None
    note: str | None = None
    rates: Rates | None = None
    built: "Corpus | None" = None

    @classmethod
    def of(cls, config: Config, run_dir: str, store: str) -> "Standing":
        """Of a run folder and the store, where they can be reached."""
        try:
            run = Folder(run_dir)
        except UserError as error:
            return cls(note=f"Nothing is counted as reused: {error}")
        searched, fit = None, fingerprint(config.refit())
        search, planned, built, ladder = (_record(run, stage) for stage in ("search", "plan", "corpus", "ladder"))
        rates = ladder.result.rates if ladder is not None and isinstance(ladder.result, LadderResult) else None
        # a start with another fit takes away what rests on the law
        search, planned = (r if r is not None and r.refit in (None, fit) else None for r in (search, planned))
        plan = planned.result.plan if planned is not None and isinstance(planned.result, PlanResult) else None
        if search is not None and isinstance(search.result, SearchResult):
            plan = search.result.final_plan  # which base and specialists follow
            trials = search.result.search.trials if search.result.search else ()
            searched = tuple(trial.split for trial in trials)
        recorded = built.result.key if built is not None and isinstance(built.result, CorpusResult) else None
        held = Store(store)
        corpus = _corpus(config, held, recorded)
        facts = None if corpus is None else CorpusFacts.of(corpus)
        choice, note = assumed(config, facts, held, run), None
        if facts is None and recorded is not None:
            searched = None  # its splits are by the corpus's domains
            note = (
                f"Nothing is counted as reused: the store {without_query(store)} does not hold {recorded}, the run's "
                "corpus. Give the store that the run was made with"
            )
        return cls(plan, facts, choice, searched, note, rates, corpus)


def _record(run: Folder, stage: str) -> StageRecord | None:
    name = f"stages/{stage}.json"
    return StageRecord.parse(run.read_checksummed(name), f"{run.uri}/{name}") if run.exists(name) else None


def _corpus(config: Config, store: Store, recorded: str | None) -> "Corpus | None":
    """The run's corpus where the store holds it: under the recorded key, else under that of the sources."""
    if recorded is None and not store.keys("corpus-"):
        return None
    from splitray.corpus import Corpus

    if (key := recorded or _key_of_sources(config)) is None or store.find(key) is None:
        return None
    return Corpus.open(store, key)


def _key_of_sources(config: Config) -> str | None:
    """The key that the corpus of the sources has; None where these, or Ray, cannot be reached from here."""
    try:
        from splitray.corpus.build import corpus_key
        from splitray.corpus.sources import list_sources

        return corpus_key(config.corpus, config.seed, list_sources(config.corpus)[0])
    except (SplitrayError, ImportError, OSError):
        return None
