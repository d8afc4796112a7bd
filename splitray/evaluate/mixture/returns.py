"""When models that have stopped are asked again, and when they come back.

A text may change its kind: a code file begins with a licence. So stopped models read the latest `WINDOW` tokens now and
then, with nothing before them. One that likes these tokens better than the mixture did comes back.

Measured on 100 validation documents of a demo run (four specialists; 76 documents have 1,000 tokens and more; means
over domains in nats per token). The known domain had 3.832. A gate without a way back had 3.877 with 1.05 models a
token on the long documents, this one 3.845 with 1.19. Two looks in advance and a share of 0.2 had 3.836 with 1.30.
Over eight specialists and their base (the proof's decisive line) the known domain had 3.164, this one 3.166 with
1.30.
"""

import numpy as np

WINDOW = 16  # tokens that a stopped model reads when it is asked
FIRST = 64  # tokens until it is asked first, whatever it costs, and between two looks at least
MARGIN = 2.0  # nats over the window by which it must beat the mixture
SHARE = 0.2  # its weight when it comes back, beside 1 of all that run
CONTEXT = 64  # latest tokens that it reads then, so that it goes on from more than a window


class Returns:
    """The schedule of each row of a batch, and its latest losses.

    Args:
        rows: of the batch.
        recheck: tokens that stopped models read, to be asked and to come back, per token of the text.
    """

    def __init__(self, rows: int, recheck: float) -> None:
        self._recheck = recheck
        self._age, self._spent = (np.zeros(rows, dtype=np.int64) for _ in range(2))
        self._due = np.full(rows, FIRST, dtype=np.int64)
        self._losses = np.zeros((rows, WINDOW))

    def observe(self, losses: np.ndarray, rows: np.ndarray) -> None:
        """Take the mixture's loss of one more token, float64 [rows], of the rows that have it, bool [rows]."""
        moved = np.column_stack([self._losses[:, 1:], losses])
        self._losses = np.where(rows[:, None], moved, self._losses)
        self._age += rows

    @property
    def due(self) -> np.ndarray:
        """Rows that are looked at now, bool [rows]. When that is depends on nothing but the row's own text."""
        due: np.ndarray = self._age >= self._due
        return due

    def ahead(self, rows: np.ndarray) -> int:
        """Tokens that may be read before one of some rows, bool [rows], is looked at next; at least 1."""
        return max(1, int((self._due - self._age)[rows].min(initial=FIRST)))

    def gains(self, nats: np.ndarray) -> np.ndarray:
        """Nats by which a model beats the mixture on the window, float64 [rows], from its loss of it."""
        gains: np.ndarray = self._losses.sum(axis=1) - nats
        return gains

    def plan(self, asked: np.ndarray, spent: np.ndarray) -> None:
        """Fix when rows are looked at next: once the text is long enough to pay for it.

        Args:
            asked: rows that were looked at, bool [rows].
            spent: tokens that stopped models read of each row now, int64 [rows].
        """
        self._spent += spent
        paid = np.ceil(self._spent / self._recheck).astype(np.int64)
        self._due = np.where(asked, np.maximum(self._age + FIRST, paid), self._due)
