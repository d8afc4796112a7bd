"""The tokenizer: lossless, the same in every process, equal to what transformers makes of the saved folder."""

import hashlib
import os
import shutil
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


def spoiled(folder: Path, target: Path, name: str, text: str) -> Path:
    shutil.copytree(folder, target)
    (target / name).write_text(text)
    return target


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tokenizer.json", '{"version": "1.0", "model": {"type": "Foo"}}'),
        ("tokenizer.json", '{"version": "1.0", "model"'),
        ("tokenizer_config.json", "[]"),
        ("tokenizer_config.json", "null"),
    ],
)
def test_a_damaged_tokenizer_is_one_error(folder: Path, tmp_path: Path, name: str, text: str) -> None:
    """`tokenizers` raises bare exceptions, and transformers whatever its code meets."""
    source = spoiled(folder, tmp_path / "t", name, text)
    with pytest.raises(UserError, match=r"corpus\.tokenizer\.source: .* is no tokenizer that can be loaded: "):
        fit_tokenizer([], TokenizerSettings(source=str(source)), tmp_path)


def test_what_is_no_folder_is_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"it is a file; give the folder that holds it, {folder}"):
        fit_tokenizer([], TokenizerSettings(source=str(folder / "tokenizer.json")), tmp_path)
    with pytest.raises(UserError, match="there is no such folder"):
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


GERMAN = "Über die Straße läuft der größte Bär; schöne Grüße aus Köln, Füße hoch und Tür zu. " * 3
PLAIN_ENGLISH = "The judge read the verdict, and the court was silent while the clerk wrote it down. " * 3


def without_letters(folder: Path, target: Path, dropped: str) -> Path:
    """A byte-level BPE whose alphabet lacks some bytes, as training without `initial_alphabet` leaves it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    missing = {b for letter in dropped for b in letter.encode()}
    kept = [c for c in sorted(pre_tokenizers.ByteLevel.alphabet()) if _byte_of(c) not in missing]
    tokenizer = Tokenizer(models.BPE({END: 0, **{c: n for n, c in enumerate(kept, start=1)}}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END).save_pretrained(target)
    return target


def _byte_of(letter: str) -> int:
    from tokenizers import decoders

    text = decoders.ByteLevel().decode([letter])
    return text.encode()[0] if text != "\ufffd" else -1 - ord(letter)


def test_what_a_tokenizer_cannot_write_is_counted(folder: Path, tmp_path: Path) -> None:
    lossy = Encoder(without_letters(folder, tmp_path / "t", "e"))
    loss = lossy.loss([PLAIN_ENGLISH])
    assert loss.lost == {"e": PLAIN_ENGLISH.count("e")}
    assert loss.characters == len("".join(PLAIN_ENGLISH.split()))
    assert Encoder(folder).loss([*HARD, GERMAN]).lost.total() == 0


def test_a_tokenizer_that_loses_text_is_refused_before_anything_is_embedded(folder: Path, tmp_path: Path) -> None:
    source = without_letters(folder, tmp_path / "t", "e")
    with pytest.raises(UserError, match=r"corpus\.tokenizer\.source: .* cannot write 1\d\.\d% .*'e'.*max_lost_share"):
        fit_tokenizer([PLAIN_ENGLISH] * 3, TokenizerSettings(source=str(source)), tmp_path / "out")
    allowed = TokenizerSettings(source=str(source), max_lost_share=0.5)
    fit_tokenizer([PLAIN_ENGLISH] * 3, allowed, tmp_path / "out")
    assert allowed.identity() == TokenizerSettings(source=str(source)).identity(), "it changes no token"


@pytest.mark.ray
def test_one_domain_that_cannot_be_written_is_named(folder: Path, tmp_path: Path, ray_cluster: None) -> None:
    """The smaller domain: over the whole corpus too little is lost to be seen."""
    from splitray.corpus import CorpusSettings, build_corpus
    from splitray.storage.store import Store
    from tests.support.planted import write_jsonl

    rows = [{**row, "text": row["text"].replace("q", "k")} for row in documents(domains=2, each=200)]
    few = [row for row in rows if row["domain"] == 1][:80]
    rows = [row for row in rows if row["domain"] == 0] + [
        {**row, "text": " ".join(word + "q" * (n % 2) for n, word in enumerate(row["text"].split()))} for row in few
    ]
    config = {
        "sources": [str(write_jsonl(tmp_path / "d.jsonl", rows))],
        "domains": 2,
        "group_column": "id",
        "id_column": "id",
        "validation_share": 0.2,
        "tfidf": {"dimensions": 16},
    }
    tokenizer = {"source": str(without_letters(folder, tmp_path / "t", "q")), "max_lost_share": 0.03}
    with pytest.raises(UserError, match=r"cannot write \d\.\d% of the characters of domain 1_.*'q'"):
        build_corpus(CorpusSettings(**config, tokenizer=tokenizer), 0, Store(tmp_path / "store"))
    tokenizer["max_lost_share"] = 0.5
    corpus = build_corpus(CorpusSettings(**config, tokenizer=tokenizer), 0, Store(tmp_path / "store"))
    large, small = (corpus.statistics["domains"][name] for name in corpus.domains)
    assert large["characters"]["lost"] == 0 < large["characters"]["sampled"]
    assert 0.03 < small["characters"]["share_lost"] < 0.2
    for domain in (large, small):
        counts = [domain[split] for split in ("train", "validation")]
        assert domain["tokens_per_byte"] == sum(c["tokens"] for c in counts) / sum(c["bytes"] for c in counts)
