"""summary.json: every number of a run, gathered from the records of its stages."""

from datetime import UTC, datetime
from typing import Any

from splitray import __version__
from splitray.config import Config
from splitray.corpus import Corpus
from splitray.law import Law
from splitray.training.model import size


def summarise(
    config: Config, records: dict[str, dict[str, Any]], corpus: Corpus, weights: dict[str, float], facts: dict[str, Any]
) -> dict[str, Any]:
    """The summary of the stages that have a record.

    Args:
        records: by stage, as `Run.done` gives them; `corpus` among them.
        facts: what is no stage's result: machine, precision, budget, law, ladder's table.
    """
    results = {s: r["result"] for s, r in records.items()}
    counted = size(config.model, corpus.vocab_size, config.training)
    search, law = results.get("search", {}), facts.pop("law")
    table, budget = facts.pop("table"), facts["budget"]
    return {
        "name": config.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "splitray": __version__,
        "config": config.model_dump(mode="json"),
        **facts,
        "params": counted.params,
        "params_total": counted.total,
        "domains": _domains(results["corpus"], corpus, weights),
        "corpus": _corpus(results["corpus"], corpus, config),
        "ladder": {**results["ladder"], "table": table} if "ladder" in results else None,
        "law": _law(law) if law is not None else None,
        "plan": results.get("plan"),
        "search": search.get("search"),
        "final_plan": search.get("final_plan"),
        "base": results.get("base"),
        "specialists": results.get("specialists", {}).get("specialists"),
        "evaluation": results.get("evaluate"),
        "stages": [_stage(s, r) for s, r in records.items() if s != "report"],
        "ladder_cost": _cost(records.get("ladder"), budget),
        "search_cost": _cost(records.get("search"), budget),
    }


def _domains(result: dict[str, Any], corpus: Corpus, weights: dict[str, float]) -> list[dict[str, Any]]:
    told = corpus.statistics["domains"]
    return [{**d, "weight": weights[d["name"]], "top_terms": told[d["name"]]["terms"]} for d in result["domains"]]


def _corpus(result: dict[str, Any], corpus: Corpus, config: Config) -> dict[str, Any]:
    sides = [d[split] for d in result["domains"] for split in ("train", "validation")]
    statistics = corpus.statistics
    return {
        "key": result["key"],
        "documents": sum(s["documents"] for s in sides),
        "skipped": statistics["dropped"],
        "row_split_groups": statistics["groups_split_by_row"],
        "embedder": config.corpus.embedder,
        "vocabulary": corpus.vocab_size,
        "bytes_per_token": sum(s["bytes"] for s in sides) / sum(s["tokens"] for s in sides),
        "seconds": statistics["seconds"],
    }


def _law(law: Law) -> dict[str, Any]:
    return {
        "form": law.form,
        "constants": law.constants,
        "heldout": list(law.heldout.rows) if law.heldout is not None else None,
        "warnings": [str(w) for w in law.warnings],
    }


def _cost(record: dict[str, Any] | None, budget: int) -> dict[str, Any] | None:
    if record is None or not record["work"]:
        return None
    trained = record["work"]["trained"]
    return {"tokens": trained, "share_of_budget": trained / budget}


def _stage(stage: str, record: dict[str, Any]) -> dict[str, Any]:
    work = record["work"]
    trained = work.get("trained", 0)
    return {
        "stage": stage,
        "began": record["began"],
        "seconds": record["seconds"],
        "tokens_trained": trained,
        "tokens_per_second": trained / record["seconds"] if trained else None,
        "segments": work.get("finished", 0),
        "failures": work.get("failures", 0),
        "training_seconds": work.get("training_seconds", 0.0),
    }


def every_loss(summary: dict[str, Any]) -> dict[str, Any]:
    """Every loss of a finished run's summary: two runs of one config and seed must agree in all of them."""
    evaluation, places = summary["evaluation"], ("params", "pretrain_tokens", "specialize_tokens", "domain", "loss")
    return {
        "ladder": [[r[k] for k in places] for r in summary["ladder"]["table"]],
        "search": [[t["split_fraction"], t["loss"]] for r in summary["search"]["rounds"] for t in r["trials"]],
        "matrix": evaluation["matrix"]["loss"],
        "routed": evaluation["routed"]["loss"],
        "comparison": [[c["strategy"], c["loss"], c["by_domain"]] for c in evaluation["comparison"]],
    }
