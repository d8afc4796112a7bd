"""The models of a run and its tokenizer, looked at before the corpus is paid for."""

import logging
from typing import Any

from splitray.config import Config
from splitray.corpus.tokenizer import load_tokenizer
from splitray.errors import UserError
from splitray.training.check import check_model

_log = logging.getLogger(__name__)
_NAMED = 3  # tokens in one message


def check_models(config: Config) -> None:
    """Check every model of a run, and that its tokenizer's ids lie in the embedding tables of models from outside.

    Raises:
        UserError: with the field to change.
    """
    settings = config.corpus.tokenizer
    tables = {}
    for shape in {s.model_dump_json(): s for s in (*config.ladder.shapes, config.model)}.values():
        rows = check_model(shape, config.training)
        if rows is not None:
            tables[shape.path] = rows
    if not tables:
        return
    path, rows = min(tables.items(), key=lambda item: item[1])
    if settings.source != "bpe":
        check_tokenizer(load_tokenizer(settings.source), settings.source, rows, str(path))
    elif settings.vocabulary > rows:
        raise UserError(
            f"corpus.tokenizer.vocabulary is {settings.vocabulary}, and the embedding table of {path} has {rows} rows; "
            "set corpus.tokenizer.source to the model's own tokenizer"
        )


def check_tokenizer(tokenizer: Any, source: str, rows: int, path: str) -> None:
    """Refuse a tokenizer that can write ids which a model has no embedding for.

    Ids of added special tokens may lie beyond the table: documents never hold them, since what looks like a special
    token in a text is read as text.
    """
    beyond = {token: number for token, number in tokenizer.get_vocab().items() if number >= rows}
    added = {number: token.special for number, token in tokenizer.added_tokens_decoder.items()}
    if tokenizer.eos_token_id >= rows:
        raise UserError(
            f"corpus.tokenizer.source {source}: its end token {tokenizer.eos_token!r} has the id "
            f"{tokenizer.eos_token_id}, and the embedding table of {path} has {rows} rows; give it an end token that "
            "the model knows"
        )
    if plain := sorted(token for token, number in beyond.items() if number not in added):
        raise UserError(
            f"corpus.tokenizer.source {source}: {len(plain)} of its tokens ({', '.join(map(repr, plain[:_NAMED]))}, "
            f"...) lie beyond the {rows} rows of the embedding table of {path}: it is not that model's tokenizer"
        )
    if written := sorted(token for token, number in beyond.items() if not added[number]):
        _log.warning(
            "corpus.tokenizer.source %s: the added tokens %s lie beyond the %d rows of the embedding table of %s; a "
            "text that holds one of them stops the training",
            source,
            ", ".join(map(repr, written[:_NAMED])),
            rows,
            path,
        )
