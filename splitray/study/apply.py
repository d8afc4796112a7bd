"""A filter over a whole corpus: two passes on Ray Data, and what came of them."""

import json
import logging
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from splitray.corpus.passes import upload
from splitray.corpus.settings import CorpusSettings
from splitray.corpus.sources import list_sources
from splitray.corpus.units import plan_units
from splitray.errors import CorruptError, UserError
from splitray.evaluate.exams import Exam
from splitray.storage.checksum import fingerprint, sha256_file
from splitray.storage.folder import Folder
from splitray.study.calibration import best_by_size
from splitray.study.contamination import ExamIndex
from splitray.study.filter import DomainFilter
from splitray.study.passes import SCORED, cut, score_unit
from splitray.study.target import FILE, FILTERED, QUALITY, RESULT, clear, keep_apart, written_files

_log = logging.getLogger(__name__)


class Passes(Protocol):
    """What runs a function over items: `splitray.corpus.ray_tasks.Engine`, or a loop."""

    def over(
        self, name: str, work: Callable[[dict[str, Any]], dict[str, Any]], items: list[dict[str, Any]]
    ) -> Iterable[dict[str, Any]]: ...


@dataclass(frozen=True)
class Kept:
    """What an arm keeps, and the lowest score in it."""

    threshold: float
    documents: int
    bytes: int


@dataclass(frozen=True)
class Filtered:
    """What filtering made of a corpus.

    documents, bytes: clean ones that were scored. mean: their mean probability. arms: `filtered` by the topic, and
    `quality`, as many bytes by quality alone, to one document. contaminated: documents that share text with exams and
    were left out, by how they were found; `documents` counts each once. skipped: other documents that were left out, by
    reason.
    """

    key: str
    documents: int
    bytes: int
    mean: float
    arms: Mapping[str, Kept]
    contaminated: Mapping[str, int]
    skipped: Mapping[str, int]


def apply_filter(
    topic: DomainFilter,
    settings: CorpusSettings,
    target: Folder,
    exams: Sequence[Exam] = (),
    wanted_bytes: float | None = None,
    engine: Passes | None = None,
) -> Filtered:
    """Score every document of a corpus, and write what the topic keeps and what quality alone would keep.

    The folder gets `scored/` (all documents, with the columns `score` and `quality`), `filtered/` and `quality/`. Each
    has the columns id, document, group and text. A folder that holds the same already is read, and not written again.

    Args:
        settings: the sources and how they are read.
        target: an empty folder, or one of an earlier call. No source may lie below it, and it below no source.
        exams: documents that share text with these are left out of all arms.
        wanted_bytes: of text to keep, instead of all from the filter's threshold up.
        engine: where the passes run; None for the Ray that this process has joined.

    Raises:
        UserError: a source cannot be read, or has no document, or less text than is wanted; the target holds what no
            filter has written, or sources.
    """
    files, passed = list_sources(settings)
    keep_apart(settings, files, target)
    with tempfile.TemporaryDirectory(prefix="splitray-filter-") as folder:
        local = Path(folder)
        topic.save(local / "filter")
        if exams:
            ExamIndex.build(exams).save(local / "exams")
        # what decides the scores names them: filter and exams by their checksums, sources by their listing
        sums = [(p.relative_to(local).as_posix(), sha256_file(p)) for p in sorted(local.rglob("*")) if p.is_file()]
        identity = {name: value for name, value in settings.identity().items() if name != "sources"}
        key = fingerprint([str(RESULT), sums, identity, [file.listing() for file in files], wanted_bytes])
        if (held := _held(target, key)) is not None:
            return held
        clear(target)
        # under the key: a worker that has opened the filter of an earlier call must not take it for this one
        model = target / f"model-{key}"
        upload(local, model)
    units = plan_units(files, settings, passed)
    items = [{"unit": number, "files": json.dumps(unit)} for number, unit in enumerate(units)]
    with _running(settings, engine) as runs:
        work = partial(score_unit, target=target, settings=settings, model=model, with_exams=bool(exams))
        scored, names, tallies = _score(runs, items, work)
        skipped, leaked = tallies
        if not len(scored):
            reasons = ", ".join(f"{reason} ({count})" for reason, count in (skipped + passed).most_common(5))
            raise UserError(f"corpus.sources: no document to score is left: {reasons or 'nothing was read'}")
        arms = _cut(runs, topic, scored, names, target, wanted_bytes)
    mean, size = float(scored["score"].mean(dtype=np.float64)), int(scored["bytes"].sum(dtype=np.int64))
    result = Filtered(key, len(scored), size, mean, arms, dict(leaked), dict(sorted((skipped + passed).items())))
    target.write_checksummed(FILE, {**asdict(result), "files": written_files(target)}, RESULT)
    return result


def _held(target: Folder, key: str) -> Filtered | None:
    """The result of an earlier call with the same filter, sources and settings; None where there is none, or a file of
    it is gone or has another size."""
    try:
        values = target.read_checksummed(FILE, RESULT)
    except (FileNotFoundError, CorruptError):
        return None
    if values["key"] != key:
        return None
    files, found = values.pop("files"), written_files(target)
    if changed := [name for name, size in files.items() if found.get(name) != size]:
        _log.warning(
            f"filter: {target.uri}/{changed[0]} is gone or has another size, as {len(changed):,} of {len(files):,} "
            "files: all are made again"
        )
        return None
    return Filtered(**{**values, "arms": {name: Kept(**arm) for name, arm in values["arms"].items()}})


@contextmanager
def _running(settings: CorpusSettings, engine: Passes | None) -> Iterator[Passes]:
    if engine is not None:
        yield engine
        return
    from splitray.corpus.ray_tasks import Engine, own_context

    with own_context():
        yield Engine(settings)


def _score(
    runs: Passes, items: list[dict[str, Any]], work: Callable[[dict[str, Any]], dict[str, Any]]
) -> tuple[np.ndarray, list[tuple[str, slice]], tuple[Counter[str], Counter[str]]]:
    """Scores of all documents, rows of type `SCORED`; the files that hold them, with their rows; what was left out."""
    results = sorted(runs.over("score documents", work, items), key=lambda row: row["unit"])
    parts, names, begin = [np.empty(0, dtype=SCORED)], list[tuple[str, slice]](), 0
    skipped, leaked = Counter[str](), Counter[str]()
    for result in results:
        for name, rows in zip(result["names"], result["rows"], strict=True):
            parts.append(np.frombuffer(rows, dtype=SCORED))
            names.append((name, slice(begin, begin + len(parts[-1]))))
            begin += len(parts[-1])
        for total, count in zip((skipped, leaked), json.loads(result["tally"]), strict=True):
            total.update(count)
    return np.concatenate(parts), names, (skipped, leaked)


def _cut(
    runs: Passes,
    topic: DomainFilter,
    scored: np.ndarray,
    names: list[tuple[str, slice]],
    target: Folder,
    wanted_bytes: float | None,
) -> dict[str, Kept]:
    """Write both arms: what the topic keeps, and as many bytes by quality."""
    size, threshold = scored["bytes"].astype(np.float64), topic.threshold
    if wanted_bytes is None:
        kept = scored["score"] >= np.float32(threshold)
    else:
        kept = best_by_size(scored["score"], scored["order"], size, wanted_bytes)
        threshold = float(scored["score"][kept].min())
    if not kept.any():
        raise UserError(
            f"the filter keeps none of {len(scored):,} documents: the highest probability is "
            f"{scored['score'].max():.3g}, and its threshold is {threshold:.3g}; lower its precision, or say how many "
            "bytes are wanted"
        )
    alike = best_by_size(scored["quality"], scored["order"], size, float(size[kept].sum()))
    arms = {FILTERED: (kept, threshold), QUALITY: (alike, float(scored["quality"][alike].min()))}
    items = [
        {"name": name, "arm": arm, "rows": np.packbits(chosen[rows]).tobytes()}
        for arm, (chosen, _) in arms.items()
        for name, rows in names
        if chosen[rows].any()
    ]
    counts = {arm: Counter[str]() for arm in arms}
    for row in runs.over("cut the arms", partial(cut, target=target), items):
        counts[row["arm"]].update({name: row[name] for name in ("documents", "bytes")})
    found = {arm: Kept(least, counts[arm]["documents"], counts[arm]["bytes"]) for arm, (_, least) in arms.items()}
    apart = found[QUALITY].bytes - found[FILTERED].bytes
    assert 0 <= apart < size[alike].max(), "the arms differ by less than one document"
    for arm, made in found.items():
        _log.info(f"filter: {arm}: {made.documents:,} documents, {made.bytes / 1e6:,.1f} MB, from {made.threshold:.3g}")
    return found
