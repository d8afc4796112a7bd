"""Keys of runs that name no given domains, weights or replay are those from before these fields were there."""

from typing import Any

import pytest

from splitray.config import Config
from splitray.corpus.build import corpus_key
from splitray.corpus.sources import SourceFile
from splitray.evaluate.measure import loss_key
from splitray.pipeline.programme import CorpusFacts, Programme
from splitray.storage.checksum import fingerprint
from splitray.training.split import Split
from tests.support.configs import PLAIN

FILES = [
    SourceFile("/data", "a.parquet", "data/a.parquet", "data/a.parquet", "parquet", 1000, 17),
    SourceFile("/data", "b.txt", "data/b.txt", "data", "text", 20, 18),
]
FACTS = CorpusFacts("c" * 64, 300, 0, ("0_law_court", "1_code_def"), {"0_law_court": 9000, "1_code_def": 4000})
CHANGES: dict[str, dict[str, Any]] = {
    "plain": {},
    "by tokens": {"weights": "tokens"},
    "slower after the split": {"training": {"specialist_lr_multiplier": 0.5, "decay_fraction": 0.25}},
}
# By configuration: the corpus, the hash of the run's identity, the hash over the keys of all that it trains, one key.
GOLDEN = {
    "plain": (
        "corpus-1c05d8f108c96a6fec58",
        "a4acf433b82adb3d7ae1",
        "1788c094c26329f403c9",
        "loss-seg-5beab4cfbbd76266f1dd-000000000045824-vvvvvvvvvvvvvvvv-1_code_def",
    ),
    "by tokens": (
        "corpus-1c05d8f108c96a6fec58",
        "7b8286352330cfc0f7a0",
        "5aebf3f54e593fd8c246",
        "loss-seg-83777999d1403ea4e5be-000000000038144-vvvvvvvvvvvvvvvv-1_code_def",
    ),
    "slower after the split": (
        "corpus-1c05d8f108c96a6fec58",
        "63ee813ebb995a3b81b9",
        "6c0f427fb0643350f513",
        "loss-seg-c7d0c658343dd842414a-000000000045824-vvvvvvvvvvvvvvvv-1_code_def",
    ),
}


def config(name: str) -> Config:
    changes = CHANGES[name]
    training = PLAIN["training"] | {"precision": "fp32"} | changes.get("training", {})
    return Config(**PLAIN | changes | {"training": training, "model": {"hidden": 24, "layers": 1}})


def keys(config: Config) -> tuple[str, str, str, str]:
    programme = Programme(config, FACTS, "fp32")
    split = Split.at(0.4, programme.budget, programme.weights, programme.training.batch_tokens)
    reference = programme.reference(split)
    base = programme.base(split)
    assert base is not None and reference is not None
    requests = [request for _, request in programme.ladder()]
    requests += [base, reference, *programme.specialists(split)]
    requests += [r for each in programme.baselines().values() for r in programme.compared(each)]
    trained = [request.target.key for request in requests]
    last = programme.specialists(split)[-1].target.key
    return (
        corpus_key(config.corpus, config.seed, FILES),
        fingerprint(config.identity()),
        fingerprint(trained),
        loss_key(last, "v" * 16, "1_code_def"),
    )


@pytest.mark.parametrize("name", CHANGES)
def test_keys_are_those_from_before_given_domains(name: str) -> None:
    assert keys(config(name)) == GOLDEN[name]
