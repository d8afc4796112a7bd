"""What is said of models and tokenizers before the corpus."""

import logging
from pathlib import Path
from typing import Any

import pytest

from splitray.config import Config
from splitray.corpus.settings import TokenizerSettings
from splitray.corpus.tokenizer import train_bpe
from splitray.errors import UserError
from splitray.pipeline.models import check_models, check_tokenizer
from tests.support.configs import PLAIN


@pytest.fixture
def tokenizer() -> Any:
    return train_bpe(["some plain words " * 20], TokenizerSettings(vocabulary=270))


def test_an_unused_special_token_beyond_the_table_is_no_fault(tokenizer: Any) -> None:
    """Many tokenizers have a padding token that their model's table lacks; no document ever holds it."""
    rows = len(tokenizer)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    assert tokenizer.convert_tokens_to_ids("[PAD]") == rows
    check_tokenizer(tokenizer, "own", rows, "model")


def test_an_added_word_beyond_the_table_is_warned_of(tokenizer: Any, caplog: pytest.LogCaptureFixture) -> None:
    rows = len(tokenizer)
    tokenizer.add_tokens(["courthouse"])
    with caplog.at_level(logging.WARNING, logger="splitray.pipeline.models"):
        check_tokenizer(tokenizer, "own", rows, "model")
    assert f"the added tokens 'courthouse' lie beyond the {rows} rows" in caplog.text


def test_another_model_s_tokenizer_is_refused(tokenizer: Any) -> None:
    with pytest.raises(UserError, match=r"5 of its tokens .*lie beyond the \d+ rows .*not that model's tokenizer"):
        check_tokenizer(tokenizer, "own", len(tokenizer) - 5, "model")
    tokenizer.add_special_tokens({"eos_token": "[END]"})
    with pytest.raises(UserError, match=r"its end token '\[END\]' has the id"):
        check_tokenizer(tokenizer, "own", len(tokenizer) - 1, "model")


def test_a_run_looks_at_its_models_first(tmp_path: Path) -> None:
    """Any model of the run: the target, or one of the ladder's."""
    ladder = PLAIN["ladder"] | {"shapes": [*PLAIN["ladder"]["shapes"], {"path": str(tmp_path)}]}
    for changes in ({"model": {"path": str(tmp_path)}}, {"ladder": ladder}):
        with pytest.raises(UserError, match=r"no readable config\.json"):
            check_models(Config(**PLAIN | changes))
    check_models(Config(**PLAIN))
