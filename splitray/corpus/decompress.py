"""Compressed source files, told by their content: gzip, zstd, bzip2 and xz, one after another if nested.

Damage does not cost the text before it. A stream that is cut short or rots ends where its decoder stops, and
`Unpacked.fault` says why. Bytes behind the last member are left out, as `gzip -d` and `zstd -d` do.
"""

import bz2
import io
import lzma
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from splitray.errors import UserError

# Bytes that one call reads and unpacks. The call that meets damage loses what it unpacked (all but gzip's), and zstd
# bounds no call: a block of 4 bytes may hold 128 KiB, so 512 bytes give 16 MiB at the most. They take a quarter more
# time than 4 KiB a call (0.63 and 0.50 s for 85 MB of text).
_CALLS = {"gzip": (1 << 13, 1 << 16), "zstd": (1 << 9, -1), "bzip2": (1 << 16, 1 << 12), "xz": (1 << 16, 1 << 12)}
_ZSTD_WINDOW = 1 << 31  # `zstd --long=31`, the longest there is, in which the Reddit dumps are written
_MAGIC = {
    b"\x1f\x8b\x08": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    **{bytes([first]) + b"\x2a\x4d\x18": "zstd" for first in range(0x50, 0x60)},  # a frame to skip comes first
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
}
ENDINGS = (".gz", ".zst", ".zstd", ".bz2", ".xz")
_HEAD = 10
_FAULTS = (zlib.error, OSError, EOFError, ValueError, lzma.LZMAError)


class _Decoder(Protocol):
    """One member of a compressed file, as `bz2.BZ2Decompressor` has it."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Gzip:
    """`zlib` with the manners of `bz2.BZ2Decompressor`, and without its loss.

    The call that meets a fault drops all that it had unpacked. So the state before each input is kept, and a faulty
    input is unpacked again byte by byte.
    """

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        self._before, self._data, self._given = self._zlib.copy(), b"", 0
        self._fault: zlib.error | None = None
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        if self._fault is not None:
            raise self._fault
        if data:
            self._before, self._data, self._given = self._zlib.copy(), data, 0
        try:
            unpacked = self._zlib.decompress(self._zlib.unconsumed_tail or data, max(max_length, 0))
        except zlib.error as error:
            self._fault, self.needs_input = error, False
            return self._salvaged()
        self._given += len(unpacked)
        # A full output may leave more inside zlib, with nothing left of the input.
        self.needs_input = not self._zlib.unconsumed_tail and len(unpacked) < max_length
        return unpacked

    def _salvaged(self) -> bytes:
        unpacked = bytearray()
        with suppress(zlib.error):
            for at in range(len(self._data)):
                unpacked += self._before.decompress(self._data[at : at + 1])
        return bytes(unpacked[self._given :])


class _Zstd:
    """One frame; a faulty frame is a `ValueError`."""

    needs_input = True

    def __init__(self) -> None:
        try:
            import zstandard
        except ImportError as error:
            raise UserError("a source is compressed by zstd: install it with pip install zstandard") from error
        self._fault = zstandard.ZstdError
        self._frame = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj()

    @property
    def eof(self) -> bool:
        return bool(self._frame.eof)

    @property
    def unused_data(self) -> bytes:
        return bytes(self._frame.unused_data)

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        try:
            return bytes(self._frame.decompress(data))
        except self._fault as error:
            raise ValueError(str(error)) from error


_DECODERS: dict[str, Callable[[], _Decoder]] = {
    "gzip": _Gzip,
    "zstd": _Zstd,
    "bzip2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ),
}


class Unpacked(io.RawIOBase):
    """The text of a compressed stream, members one after another.

    `fault` is why the stream ended before its end, None as long as all is well. `remark` is what else should be
    counted: bytes behind the end.
    """

    def __init__(self, packed: io.BufferedReader, codec: str) -> None:
        self._packed, self._codec = packed, codec
        self._decoder = _DECODERS[codec]()
        self._in, self._out = _CALLS[codec]
        self._input, self._ready, self._started, self._ended = b"", b"", False, False
        self.fault: str | None = None
        self.remark: str | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill the buffer, across members: what a file begins with is asked of the first bytes that are read."""
        count = 0
        while count < len(buffer):
            while not self._ready and not self._ended:
                self._ready = self._more()
            if not self._ready:
                break
            size = min(len(buffer) - count, len(self._ready))
            buffer[count : count + size], self._ready = self._ready[:size], self._ready[size:]
            count += size
        return count

    def _more(self) -> bytes:
        if self._decoder.eof:
            return self._next_member()
        if self._decoder.needs_input and not self._input:
            self._input = self._packed.read(self._in)
            if not self._input:
                self._end(f"{self._codec} cut short")
                return b""
        data, self._input = self._input, b""
        try:
            return self._decoder.decompress(data, self._out)
        except _FAULTS as error:
            self._end(f"{self._codec}: {error}")
            return b""

    def _next_member(self) -> bytes:
        """What lies behind a member: another one, zeros that fill a tape's block, or bytes of no meaning.

        Members may have zeros between them: `xz` pads its streams so, and tapes their blocks.
        """
        rest = self._decoder.unused_data + self._input
        rest += self._packed.read(max(0, _HEAD - len(rest)))
        found = rest.lstrip(b"\0")
        while not found and (more := self._packed.read(1 << 16)):
            found = more.lstrip(b"\0")
        found += self._packed.read(max(0, _HEAD - len(found))) if found else b""
        if (codec := codec_of(found)) == self._codec:
            self._decoder, self._input = _DECODERS[codec](), found
            return b""
        if rest:
            self.remark = f"{self._codec} file with {'other bytes' if found else 'zeros'} behind its end"
        self._end(None)
        return b""

    def _end(self, fault: str | None) -> None:
        self.fault, self._ended = fault, True

    def close(self) -> None:
        self._packed.close()
        super().close()


def codec_of(head: bytes) -> str | None:
    """The compression that a file's first bytes tell, None for a plain file."""
    codec = next((codec for magic, codec in _MAGIC.items() if head.startswith(magic)), None)
    # "BZh" may begin a text; a bzip2 file goes on with its level and the first block's (or the end's) mark.
    if codec == "bzip2" and head[4:10] not in (b"1AY&SY", b"\x17rE8P\x90"):
        return None
    return codec


def unpacked(stream: io.RawIOBase) -> tuple[io.BufferedReader, list[Unpacked]]:
    """A stream without its compression, and the layers that were taken off, outermost first."""
    plain: io.BufferedReader = io.BufferedReader(stream, 1 << 20)
    layers: list[Unpacked] = []
    while codec := codec_of(plain.peek(_HEAD)[:_HEAD]):
        layers.append(Unpacked(plain, codec))
        plain = io.BufferedReader(layers[-1], 1 << 20)
    return plain, layers
