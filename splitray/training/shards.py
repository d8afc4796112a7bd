"""A state that all ranks write at once: each the ranges that it owns, as a safetensors file of its own.

A piece is a range of one parameter, laid flat, and of one kind: fp32 weights, or one of the two moments. A shard names
its pieces in its header, `KIND/NAME[START:STOP]`, so that it can be read by itself. `index.json` beside the shards says
where every piece lies, and has the SHA-256 of their chunks. With it, ranks of any other world read what they need and
no more. Bits are copied: nothing is gathered, converted or computed.
"""

import itertools
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from splitray.errors import CorruptError, StorageError
from splitray.storage import ranges
from splitray.storage.ranges import Chunks, Ranges
from splitray.storage.store import Attempt, Published, StoredFile

if TYPE_CHECKING:
    import torch

WEIGHTS, MOMENTS = "weights", ("exp_avg", "exp_avg_sq")  # the moments by the names that torch gives them
INDEX = "index.json"
_FORMAT = "splitray-state-shards-1"
_ITEM = 4  # bytes of an fp32 number


@dataclass(frozen=True, order=True)
class Piece:
    """Elements `start` to `stop` of a parameter laid flat, of one kind."""

    kind: str
    name: str
    start: int
    stop: int

    @property
    def label(self) -> str:
        return f"{self.kind}/{self.name}[{self.start}:{self.stop}]"


@dataclass
class Shard:
    """What one rank owns of a state: fp32 values on the CPU by piece, the shapes of those parameters, the steps taken.

    `settle` waits until the values are there: on a GPU they may still be on their way.
    """

    pieces: "dict[Piece, torch.Tensor]"
    shapes: dict[str, tuple[int, ...]]
    step: int
    settle: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Written:
    """What a rank tells of the shard that it has written; `places` are byte offsets in the file."""

    file: str
    stored: StoredFile
    chunks: Chunks
    shapes: dict[str, tuple[int, ...]]
    places: dict[Piece, int]


def write(attempt: Attempt, rank: int, shard: Shard) -> Written:
    """Write one rank's shard into an attempt that other ranks write to as well.

    Raises:
        StorageError: the temporary folder or the store does not take it.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    shard.settle()
    name, named = f"shard-{rank:05d}.safetensors", {piece.label: piece for piece in shard.pieces}
    shapes = {n: list(s) for n, s in sorted(shard.shapes.items())}
    # one field: safetensors writes several in an order that changes, and equal states would be other files
    head = {"state": json.dumps({"format": _FORMAT, "shapes": shapes, "step": shard.step})}
    with tempfile.TemporaryDirectory(prefix="splitray-state-") as folder:
        path = Path(folder) / name
        try:
            save_file({piece.label: values for piece, values in shard.pieces.items()}, path, metadata=head)
            places = {named[label]: begin for label, begin in _offsets(path).items()}
            chunks, whole = Chunks.of(path, ranges.CHUNK_BYTES)
        except (OSError, SafetensorError) as error:
            raise StorageError(f"the temporary folder {folder} takes no {name} of {attempt.key}: {error}") from error
        attempt.folder.put(path, name)
        return Written(name, StoredFile(path.stat().st_size, whole), chunks, shard.shapes, places)


def _offsets(path: Path) -> dict[str, int]:
    """Where in a safetensors file the values of each tensor begin."""
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        head: dict[str, Any] = json.loads(stream.read(length))
    return {name: 8 + length + told["data_offsets"][0] for name, told in head.items() if name != "__metadata__"}


def publish(attempt: Attempt, written: Iterable[Written], meta: dict[str, Any]) -> Published:
    """Publish what all ranks have written: the index, then the marker.

    Raises:
        CorruptError: the shards leave out a part of a parameter, or hold one twice.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    pieces: dict[str, list[list[Any]]] = {}
    chunks: dict[str, Chunks] = {}
    for one in written:
        attempt.register(one.file, one.stored.bytes, one.stored.sha256)
        shapes |= one.shapes
        chunks[one.file] = one.chunks
        for piece, begin in one.places.items():
            pieces.setdefault(f"{piece.kind}/{piece.name}", []).append([piece.start, piece.stop, one.file, begin])
    for name, found in pieces.items():
        _check_whole(attempt.key, name, sorted(found), shapes)
    index = {
        "format": _FORMAT,
        "shapes": {n: list(s) for n, s in sorted(shapes.items())},
        "pieces": {n: sorted(p) for n, p in sorted(pieces.items())},
        "chunks": ranges.plain_of(dict(sorted(chunks.items()))),
    }
    with tempfile.TemporaryDirectory(prefix="splitray-state-") as folder:
        path = Path(folder) / INDEX
        path.write_text(json.dumps(index))
        attempt.add(path, INDEX)
    return attempt.publish(meta)


def _check_whole(key: str, name: str, pieces: list[list[Any]], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse pieces that do not cover a parameter once."""
    at = 0
    for start, stop, *_ in pieces:
        if start != at:
            raise CorruptError(
                f"{key}: its shards {'lack' if start > at else 'repeat'} elements of {name} from {at} on"
            )
        at = stop
    whole = numel(shapes[name.partition("/")[2]])
    if at != whole:
        raise CorruptError(f"{key}: its shards have {at} of the {whole} elements of {name}")


def numel(shape: Iterable[int]) -> int:
    """Elements of a shape."""
    count = 1
    for size in shape:
        count *= size
    return count


class Reader:
    """Reads ranges of a published state that was written in shards.

    Raises (on opening, too):
        CorruptError: a file is damaged or missing, or pieces of a parameter are.
    """

    def __init__(self, published: Published) -> None:
        index = self._index(published)
        try:
            self.shapes = {str(n): tuple(map(int, s)) for n, s in index["shapes"].items()}
            self._pieces: dict[str, list[list[Any]]] = dict(index["pieces"])
            self._ranges = Ranges(published, ranges.chunks_of(index["chunks"]))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise CorruptError(f"{published.key}: its {INDEX} is of another form: {error!r}") from error
        for name, pieces in self._pieces.items():
            _check_whole(published.key, name, pieces, self.shapes)
        self.key, self.step = published.key, int(published.recorded("step"))

    @staticmethod
    def _index(published: Published) -> dict[str, Any]:
        index = json.loads(published.fetch(INDEX, trust=True).read_text())
        if not isinstance(index, dict) or index.get("format") != _FORMAT:
            raise CorruptError(f"{published.key}: its {INDEX} is none of {_FORMAT}")
        return index

    @property
    def bytes_read(self) -> int:
        return self._ranges.bytes_read

    @property
    def has_moments(self) -> bool:
        return all(f"{moment}/{name}" in self._pieces for moment in MOMENTS for name in self.shapes)

    def read(self, piece: Piece) -> "torch.Tensor":
        """fp32 [stop - start], on the CPU."""
        import torch

        values = torch.empty(piece.stop - piece.start, dtype=torch.float32)
        for start, stop, file, begin in self._pieces[f"{piece.kind}/{piece.name}"]:
            a, b = max(start, piece.start), min(stop, piece.stop)
            if a < b:
                data = self._ranges.read(file, begin + (a - start) * _ITEM, begin + (b - start) * _ITEM)
                values[a - piece.start : b - piece.start] = torch.frombuffer(data, dtype=torch.float32)
        return values


def shares(kinds: Iterable[str], shapes: Mapping[str, tuple[int, ...]], ranks: int) -> list[list[Piece]]:
    """All of a state, cut into one share a rank: ranges of even size, over kinds and parameters in their order."""
    spans = [(kind, name, numel(shape)) for kind in kinds for name, shape in sorted(shapes.items())]
    total = sum(size for *_, size in spans)
    edges = [total * rank // ranks for rank in range(ranks + 1)]
    return [list(_cut(spans, first, last)) for first, last in itertools.pairwise(edges)]


def _cut(spans: list[tuple[str, str, int]], first: int, last: int) -> Iterator[Piece]:
    at = 0
    for kind, name, size in spans:
        start, stop = max(first - at, 0), min(last - at, size)
        if start < stop:
            yield Piece(kind, name, start, stop)
        at += size
