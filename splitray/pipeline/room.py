"""Whether the caches of a cluster have room for the text that training draws from: asked before anything is trained."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from splitray.corpus import Corpus
from splitray.errors import UserError
from splitray.pipeline.programme import Programme
from splitray.storage import cache
from splitray.training.data import Order
from splitray.training.feed import reach
from splitray.training.tree import MIXTURE

if TYPE_CHECKING:
    from splitray.executor.node_caches import NodeCache  # imports Ray, which a dry run does without

_log = logging.getLogger(__name__)

_SMALLEST, _LARGEST = 10, 40  # powers of two, in tokens, between which a span is proposed


@dataclass(frozen=True)
class Room:
    """What training takes of a node's cache, in bytes; 0 where the store is on a disk that nodes read.

    Args:
        text: all training text.
        at_once: what one segment needs at once at most, be it of the mixture or of a domain.
        tokens: of all training text.
    """

    text: int
    at_once: int
    tokens: int


def room_of(programme: Programme, corpus: Corpus, shuffle_tokens: int | None) -> Room:
    """What training in spans of at most so many tokens takes of a node's cache; None: in whole domains."""
    training, names = programme.training, corpus.domains
    shards = {name: corpus.mapped(name, "train") for name in names}
    order = Order(shards, programme.weights, training.sequence_length, programme.config.seed, shuffle_tokens)
    far = reach(training.global_batch_size)
    replayed = (MIXTURE,) if training.replay_share else ()
    sources = [(MIXTURE,), *((name, *replayed) for name in names)]
    at_once = max(corpus.room(order.at_once(source, **far), "train") for source in sources)
    text = corpus.room({name: len(shards[name]) for name in names}, "train")
    return Room(text, at_once, sum(corpus.counts(name, "train")["tokens"] for name in names))


def proposed(programme: Programme, corpus: Corpus, limit: float) -> int | None:
    """The largest power of two for `training.shuffle_tokens` that such a cache has room for; None where none is."""
    for power in range(_LARGEST, _SMALLEST - 1, -1):
        if room_of(programme, corpus, 2**power).at_once <= limit:
            return int(2**power)
    return None


def check_room(programme: Programme, corpus: Corpus, nodes: "Mapping[str, NodeCache]") -> None:
    """Refuse to train where some node's cache has no room for the text of one segment.

    Nodes that an autoscaler brings up later are checked by the processes that train there.

    Args:
        nodes: by address, those that train.

    Raises:
        UserError: naming the nodes, and a value of `training.shuffle_tokens` that they have room for.
    """
    room = room_of(programme, corpus, programme.training.shuffle_tokens)
    small = {address: node for address, node in nodes.items() if node.limit < room.at_once}
    if small:
        found = ", ".join(f"{address} ({node.limit / 1e9:.3g} GB)" for address, node in sorted(small.items()))
        least = min(node.limit for node in small.values())
        raise UserError(
            f"a segment needs {room.at_once / 1e9:.3g} GB of training text at once, and the caches of these nodes may "
            f"not have as much: {found}. Nothing was trained: {_cure(programme, corpus, least)}"
        )
    for address, node in nodes.items():
        several = min(node.workers * room.at_once, room.text)
        if several > node.limit:
            _log.warning(
                "node %s trains up to %d segments at once. Where each is at another place of the text, they need "
                "%.3g GB of it, and its cache may have %.3g GB: set %s to more",
                *(address, node.workers, several / 1e9, node.limit / 1e9, cache.LIMIT),
            )


def room_words(programme: Programme, corpus: Corpus) -> str | None:
    """For the dry run: what training takes of a node's cache, and what to do where this machine's has no room."""
    shuffle_tokens = programme.training.shuffle_tokens
    room = room_of(programme, corpus, shuffle_tokens)
    if not room.text:
        return None
    said = f"{room.text / 1e9:.3g} GB of text, of which a segment needs {room.at_once / 1e9:.3g} GB at once"
    limit = cache.limit()
    if room.at_once <= limit:
        return said
    return f"{said}. This machine's cache may have {limit / 1e9:.3g} GB: {_cure(programme, corpus, limit)}"


def _cure(programme: Programme, corpus: Corpus, limit: float) -> str:
    disk = f"set {cache.LIMIT} to more, or TMPDIR to a folder on a larger disk"
    tokens = proposed(programme, corpus, limit)
    if tokens is None:
        return f"{disk}. Lower training.shuffle_tokens do not help, since a span is at least a shard"
    return f"{disk}, or training.shuffle_tokens to {tokens} or less in a new run folder"
