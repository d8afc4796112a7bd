"""splitray: how many tokens belong before the split into per-domain specialist language models.

    import splitray

    law = splitray.fit("runs.csv", bootstrap=200)
    plan = splitray.plan(law, params=1.3e9, budget=240e9, domains=16)

    config = splitray.load_config("config.yaml", ["budget=20M"])
    print(splitray.dry_run(config))
    result = splitray.run(config, log=print)
    print(result.plan, result.losses, result.report)

`import splitray` imports none of these until it is used. The law and the planner need the core install only.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from splitray.api import build_corpus, draft_config, dry_run, forecast, prove, run
    from splitray.config import load as load_config
    from splitray.corpus import Corpus
    from splitray.corpus.router import Router
    from splitray.law import Law, Plan, fit, plan
    from splitray.storage.store import Store

__version__ = "0.1.0"

__all__ = [
    "Corpus",
    "Law",
    "Mixture",
    "Plan",
    "Router",
    "Sampling",
    "Store",
    "build_corpus",
    "draft_config",
    "dry_run",
    "fit",
    "forecast",
    "load_config",
    "load_mixture",
    "plan",
    "prove",
    "run",
]

_WHERE = {
    "Corpus": ("splitray.corpus", "Corpus"),
    "Law": ("splitray.law", "Law"),
    "Plan": ("splitray.law", "Plan"),
    "Mixture": ("splitray.evaluate.mixture", "Mixture"),
    "Router": ("splitray.corpus.router", "Router"),
    "Sampling": ("splitray.evaluate.mixture", "Sampling"),
    "Store": ("splitray.storage.store", "Store"),
    "build_corpus": ("splitray.api", "build_corpus"),
    "draft_config": ("splitray.api", "draft_config"),
    "dry_run": ("splitray.api", "dry_run"),
    "forecast": ("splitray.api", "forecast"),
    "fit": ("splitray.law", "fit"),
    "load_config": ("splitray.config", "load"),
    "load_mixture": ("splitray.evaluate.mixture", "load_mixture"),
    "plan": ("splitray.law", "plan"),
    "prove": ("splitray.api", "prove"),
    "run": ("splitray.api", "run"),
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    module, attribute = _WHERE[name]
    value = globals()[name] = getattr(importlib.import_module(module), attribute)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
