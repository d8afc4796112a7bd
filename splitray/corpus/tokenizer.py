"""The tokenizer: byte-level BPE trained on training documents, or one that exists; tokens of a document and its end."""

import json
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from splitray.corpus.settings import TokenizerSettings
from splitray.errors import UserError

END = "<|endoftext|>"
_CHECKED = 500  # training documents that a tokenizer from outside must write, before anything is embedded


def train_bpe(texts: Iterable[str], settings: TokenizerSettings) -> Any:
    """A byte-level BPE (every string is encodable and comes back the same) as a `PreTrainedTokenizerFast`."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    # GPT-2's pattern with digits taken singly, so that small vocabularies are not filled with numbers.
    pattern = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=settings.vocabulary,
        special_tokens=[END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        bos_token=END,
        pad_token=END,
        model_max_length=settings.model_max_length,
        clean_up_tokenization_spaces=False,
    )


def load_tokenizer(source: str) -> Any:
    """A Hugging Face tokenizer by path or name. It must have an end token."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except Exception as error:  # tokenizers raises bare ones, and transformers whatever its code meets
        reason = _local_fault(Path(source)) or " ".join(str(error).split()) or repr(error)
        raise UserError(
            f"corpus.tokenizer.source: {source!r} is no tokenizer that can be loaded: {reason:.300}"
        ) from error
    if tokenizer.eos_token_id is None:
        raise UserError(
            f"corpus.tokenizer.source: {source!r} has no end-of-sequence token to put between documents: name one of "
            "its tokens as eos_token in its tokenizer_config.json"
        )
    if not tokenizer.is_fast:
        raise UserError(f"corpus.tokenizer.source: {source!r} has no fast version (tokenizer.json); convert it first")
    return tokenizer


def _local_fault(path: Path) -> str | None:
    """Why a path that is none of a tokenizer's folder is none; hub names are no paths."""
    if path.is_file():
        return f"it is a file; give the folder that holds it, {path.parent}"
    if str(path).startswith((".", "/", "~")) and not path.is_dir():
        return "there is no such folder"
    return None


@dataclass
class CharacterLoss:
    """What a tokenizer could not write of some texts: characters that do not come back from their tokens.

    Blanks are left out, which many tokenizers join or drop. Texts are compared in NFC, letter counts and not places.
    """

    characters: int = 0
    lost: Counter[str] = field(default_factory=Counter)

    def add(self, text: str, decoded: str) -> None:
        written = Counter(text)
        self.characters += sum(count for letter, count in written.items() if not letter.isspace())
        written.subtract(Counter(unicodedata.normalize("NFC", decoded)))
        self.lost.update({c: count for c, count in written.items() if count > 0 and not c.isspace()})

    def merge(self, characters: int, lost: dict[str, int]) -> None:
        self.characters += characters
        self.lost.update(lost)

    @property
    def share(self) -> float:
        return self.lost.total() / max(self.characters, 1)

    def check(self, settings: TokenizerSettings, where: str) -> None:
        """Refuse a tokenizer that loses more than the settings allow.

        Raises:
            UserError: it does; the message shows what is lost most often.
        """
        if self.share > settings.max_lost_share:
            most = ", ".join(repr(letter) for letter, _ in self.lost.most_common(6))
            raise UserError(
                f"corpus.tokenizer.source: {settings.source!r} cannot write {self.share:.1%} of the characters of "
                f"{where} (most often {most}): give a tokenizer that can, or raise corpus.tokenizer.max_lost_share "
                f"(now {settings.max_lost_share:g})"
            )


class Encoder:
    """Documents to token arrays; what looks like a special token in a text is text.

    Reads the saved tokenizer with `tokenizers` alone: importing transformers costs a worker five seconds.
    """

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer, decoders

        os.environ["TOKENIZERS_PARALLELISM"] = "false"  # Ray runs one task a CPU already
        self._encode = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._encode.encode_special_tokens = True
        self._encode.no_truncation()
        self._encode.no_padding()
        if self._encode.decoder is None and "ByteLevel" in str(self._encode.pre_tokenizer):
            self._encode.decoder = decoders.ByteLevel()  # some files leave out what only `decode` needs
        end = json.loads((folder / "tokenizer_config.json").read_text())["eos_token"]
        number = self._encode.token_to_id(end if isinstance(end, str) else end["content"])
        assert number is not None, f"{folder}: the end token {end!r} has no id"
        self.end: int = number
        self.vocabulary = max(self._encode.get_vocab().values()) + 1  # ids may have gaps
        self.dtype = np.dtype(np.uint16 if self.vocabulary <= 2**16 else np.uint32)

    def encode(self, texts: list[str]) -> list[np.ndarray]:
        """For each text its tokens and the end token, as arrays of `dtype`."""
        return [
            np.array([*encoding.ids, self.end], dtype=self.dtype)
            for encoding in self._encode.encode_batch_fast(texts, add_special_tokens=False)
        ]

    def decode(self, documents: list[np.ndarray]) -> list[str]:
        """The texts that `encode` wrote, each as its tokens give it back."""
        return list(self._encode.decode_batch([tokens[:-1].tolist() for tokens in documents]))

    def loss(self, texts: list[str]) -> CharacterLoss:
        loss = CharacterLoss()
        for text, decoded in zip(texts, self.decode(self.encode(texts)), strict=True):
            loss.add(text, decoded)
        return loss


def fit_tokenizer(texts: list[str], settings: TokenizerSettings, folder: Path) -> None:
    """Train or load the tokenizer that the settings name and save it to `folder`, complete.

    Raises:
        UserError: the tokenizer cannot be loaded, has no end token, or loses too many characters of the texts.
    """
    if settings.source == "bpe":
        train_bpe(texts, settings).save_pretrained(folder)
        return
    load_tokenizer(settings.source).save_pretrained(folder)
    Encoder(folder).loss(texts[:_CHECKED]).check(settings, "the training text")
