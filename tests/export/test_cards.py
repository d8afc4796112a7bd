"""The documents beside a model: metadata that the hub's library reads, facts of the run, blanks for people."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from splitray.export.facts import BLANK, public, table
from splitray.results.folders import README, TRAINING_CONTENT

MODELS = ("trunk", "base", "specialists/0_sea", "specialists/1_kitchen", "specialists/2_court")


def card(run: Path, place: str) -> Any:
    from huggingface_hub import ModelCard

    return ModelCard.load(run / place / README)


@pytest.mark.parametrize("place", ["", *MODELS])
def test_the_hub_library_reads_every_card(place: str, finished_run: Path) -> None:
    """It reads the metadata strictly: a wrong model-index raises. Whether the hub takes it, only the hub can say."""
    found = card(finished_run, place)
    assert found.data.library_name == "transformers" and found.data.pipeline_tag == "text-generation"
    assert "splitray" in found.data.tags and found.data.license is None, "the licence is the publisher's"
    assert found.text.lstrip().startswith("# tiny") and BLANK in found.text
    assert (finished_run / place / TRAINING_CONTENT).exists()


def test_metadata_has_the_losses_of_the_run(finished_run: Path) -> None:
    matrix = json.loads((finished_run / "stages/evaluate.json").read_text())["result"]["matrix"]
    for model, row in zip(matrix["models"], matrix["loss"], strict=True):
        place = f"specialists/{model}" if model in matrix["domains"] else "base"
        results = {r.dataset_config: r.metric_value for r in card(finished_run, place).data.eval_results}
        assert results == pytest.approx(dict(zip(matrix["domains"], row, strict=True)), abs=1e-6)
    assert not card(finished_run, "trunk").data.eval_results


def test_a_card_tells_what_the_run_knows(finished_run: Path) -> None:
    place = finished_run / "specialists/1_kitchen"
    text, record = (place / README).read_text(), json.loads((place / "checksums.json").read_text())
    ledger = [json.loads(path.read_text()) for path in (finished_run / "ledger").iterdir()]
    hours = sum(stage["training_seconds"] for start in ledger for stage in start["stages"]) / 3600
    for told in (
        record["key"],
        record["lineage"]["recipe"]["corpus"],
        record["files"]["model.safetensors"]["sha256"],
        "flour, butter, oven",  # a domain's terms
        "| before the split | all domains by weight | 12,288 |",
        "16,384 tokens in all",
        f"Training took {hours:.3g} worker hours, as measured.",
        "share of the tokens before the split | 0.500 | 0.500 |",
        "trained on windows of 32 tokens",
    ):
        assert told in text, told
    assert "/home/somebody" not in text and "`texts.jsonl`" in text


def test_training_content_has_the_fields_of_both_laws(finished_run: Path) -> None:
    text = (finished_run / TRAINING_CONTENT).read_text()
    europe, california = text.split("## California")
    sections = re.findall(r"^\| (\d\.\d(?:\.\d)?) \|", europe, re.MULTILINE)
    first, second, third = (
        ["1.1", "1.2", "1.3"],
        ["2.1", "2.2.1", "2.2.2", "2.3", "2.4", "2.5", "2.6"],
        ["3.1", "3.2", "3.3"],
    )
    assert list(dict.fromkeys(sections)) == [*first, *second, *third]
    assert re.findall(r"^\| (\d+) \|", california, re.MULTILINE) == [str(item) for item in range(1, 13)]
    assert "less than 1 billion tokens: 35,715 tokens" in text and "207 documents" in text


def test_what_somebody_edited_stays(finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import shutil

    from splitray.cli.main import main

    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    edited, gone = run / "base" / README, run / "trunk" / README
    edited.write_text(edited.read_text().replace(BLANK, "MIT", 1))
    mine, before = edited.read_text(), gone.read_text()
    gone.unlink()
    assert main(["export", str(run), "--store", str(finished_run.parent / "store")]) == 0
    assert edited.read_text() == mine and gone.read_text() == before
    assert capsys.readouterr().out == f"written: {gone}\n", "the rest is as it was"


def test_sources_are_shown_without_what_is_private() -> None:
    assert public("/home/me/secret/texts") == "`texts` (a local path, of which the last part is named)"
    assert "key" not in public("s3://key:word@bucket/texts?region=x") and "bucket/texts" in public(
        "s3://a:b@bucket/texts"
    )
    assert "Python environment" in public("environment")


def test_text_of_a_corpus_is_text_in_a_table() -> None:
    """Terms come from the corpus, which may hold anything."""
    (*_, row) = table(("a", "b"), [("x|y", "<script>\n")]).splitlines()
    assert row == "| x\\|y | &lt;script> |"
