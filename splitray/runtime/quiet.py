"""Keep other libraries' words out of the output for as long as a block runs; afterwards all is as before."""

import logging
import os
import re
import select
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


@contextmanager
def levels(of: Mapping[str, int]) -> Iterator[None]:
    """Loggers by name let through records from a level up."""
    loggers = {logging.getLogger(name): level for name, level in of.items()}
    before = {logger: logger.level for logger in loggers}
    for logger, level in loggers.items():
        logger.setLevel(level)
    try:
        yield
    finally:
        for logger, level in before.items():
            logger.setLevel(level)


@contextmanager
def environment(**values: str) -> Iterator[None]:
    """Environment variables of this process, where they are not set already."""
    added = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


@contextmanager
def no_bars() -> Iterator[None]:
    """The progress bars of transformers and of the Hugging Face hub are off, and their remarks too."""
    from transformers.utils import logging as words

    before = words.is_progress_bar_enabled()
    words.disable_progress_bar()
    try:
        with levels({"transformers": logging.ERROR}):
            yield
    finally:
        if before:
            words.enable_progress_bar()


@contextmanager
def without_lines(pattern: str) -> Iterator[None]:
    """Lines that match are dropped of what this process writes to its error output, C++ libraries included.

    For libraries with no switch of their own. Everything else comes through, a line at a time.
    """
    drop = re.compile(pattern.encode())
    true_output = os.dup(2)
    reading, writing = os.pipe()
    os.dup2(writing, 2)
    os.close(writing)
    over = threading.Event()

    def forward() -> None:
        rest = b""
        while True:
            if select.select([reading], [], [], 0.1)[0]:
                more = os.read(reading, 1 << 16)
                *lines, rest = (rest + more).split(b"\n")
                kept = [line + b"\n" for line in lines if not drop.search(line)]
                os.write(true_output, b"".join(kept))
                if more:
                    continue
            elif not over.is_set():
                continue
            os.write(true_output, rest)
            return

    thread = threading.Thread(target=forward, daemon=True, name="error output")
    thread.start()
    try:
        yield
    finally:
        over.set()
        os.dup2(true_output, 2)  # the pipe's last writer is gone, so reading ends
        thread.join()
        os.close(reading)
        os.close(true_output)
