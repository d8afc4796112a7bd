"""A classifier that exists already: its files decide what a filter is called, and another model is not taken for it."""

from pathlib import Path

import numpy as np
import pytest

from splitray.errors import UserError
from splitray.study.classifiers import load_classifier
from splitray.study.classifiers.pretrained import PretrainedClassifier, PretrainedSettings

TEXTS = ["abc def", "hij", "a b c d e f g h i j"]


def write_model(folder: Path, seed: int) -> None:
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghij", *(f"##{c}" for c in "abcdefghij")]
    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(seed)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = BertConfig(
        vocab_size=len(words), id2label={0: "other", 1: "law"}, label2id={"other": 0, "law": 1}, **shape
    )
    BertForSequenceClassification(config).save_pretrained(folder)


def saved(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_files_of_a_model_are_part_of_its_classifier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model(tmp_path / "bert", seed=0)
    (tmp_path / "bert" / "README.md").write_text("not a part of it")
    monkeypatch.chdir(tmp_path)
    made = PretrainedClassifier.fit([], np.empty(0, bool), PretrainedSettings(path="bert", label="law"), 0)
    made.save(tmp_path / "first")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (tmp_path / "bert" / "README.md").write_text("changed")
    again = load_classifier(tmp_path / "first")
    assert np.array_equal(again.log_odds(TEXTS), made.log_odds(TEXTS)), "from another working folder"

    write_model(tmp_path / "bert", seed=1)
    with pytest.raises(UserError, match=r"bert: model\.safetensors is not the file that the filter was made with"):
        load_classifier(tmp_path / "first")
    other = PretrainedClassifier(PretrainedSettings(path=str(tmp_path / "bert"), label="law"))
    other.save(tmp_path / "second")
    assert saved(tmp_path / "first") != saved(tmp_path / "second"), "which is what names the result of a filter"
