"""The tokenizer: lossless, the same in every process, equal to what transformers makes of the saved folder."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from splitray.corpus.settings import TokenizerSettings
from splitray.corpus.tokenizer import END, Encoder, fit_tokenizer
from splitray.errors import UserError
from tests.support import ROOT
from tests.support.planted import documents

HARD = [
    "",
    " ",
    "plain text",
    "def f(x):\n\treturn  x  # ünïcödé\n\n\n",
    "日本語と emoji 🎉 and \u200b invisible",
    f"a document that quotes {END} in its middle",
    "1234567890 3.14 \u0660\u0661",
    "'s 't 're don't",
    "\x07 bell",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("tokenizer")
    texts = [row["text"] for row in documents(each=60)]
    fit_tokenizer(texts, TokenizerSettings(vocabulary=600, model_max_length=512), target)
    return target


def test_round_trip_and_transformers_agree(folder: Path) -> None:
    from transformers import AutoTokenizer

    encoder, tokenizer = Encoder(folder), AutoTokenizer.from_pretrained(folder)
    assert (encoder.end, encoder.vocabulary, tokenizer.model_max_length) == (tokenizer.eos_token_id, 600, 512)
    for text, tokens in zip(HARD, encoder.encode(HARD), strict=True):
        assert tokens[-1] == encoder.end and encoder.end not in tokens[:-1], "a quoted end token is text"
        assert tokenizer.decode(tokens[:-1]) == text
        if END not in text:
            assert tokens[:-1].tolist() == tokenizer(text, add_special_tokens=False)["input_ids"]


def test_any_hugging_face_folder_serves(folder: Path, tmp_path: Path) -> None:
    fit_tokenizer([], TokenizerSettings(source=str(folder)), tmp_path)
    one, two = Encoder(folder), Encoder(tmp_path)
    assert [t.tolist() for t in one.encode(HARD)] == [t.tolist() for t in two.encode(HARD)]
    with pytest.raises(UserError, match=r"corpus\.tokenizer\.source.*nowhere"):
        fit_tokenizer([], TokenizerSettings(source=str(tmp_path / "nowhere")), tmp_path)


def test_large_vocabularies_need_four_bytes(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {END: 0, "[UNK]": 1, **{f"w{n}": n for n in range(2, 70_000)}}
    raw = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=raw, eos_token=END).save_pretrained(tmp_path)
    encoder = Encoder(tmp_path)
    assert encoder.dtype == "uint32" and encoder.encode(["w69999 w2"])[0].tolist() == [69999, 2, 0]
    raw.add_special_tokens([])
    PreTrainedTokenizerFast(tokenizer_object=raw).save_pretrained(tmp_path / "endless")
    with pytest.raises(UserError, match="no end-of-sequence token"):
        fit_tokenizer([], TokenizerSettings(source=str(tmp_path / "endless")), tmp_path)


def test_the_same_bytes_in_every_process_and_with_any_threads(folder: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.support.planted import documents;"
        "from splitray.corpus.tokenizer import fit_tokenizer; from splitray.corpus.settings import TokenizerSettings;"
        "texts = [row['text'] for row in documents(each=60)];"
        "fit_tokenizer(texts, TokenizerSettings(vocabulary=600, model_max_length=512), Path(sys.argv[1]))"
    )
    environment = {**os.environ, "RAYON_NUM_THREADS": "1", "PYTHONHASHSEED": "7", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, env=environment)
    digests = [hashlib.sha256((f / "tokenizer.json").read_bytes()).hexdigest() for f in (folder, tmp_path)]
    assert digests[0] == digests[1]
