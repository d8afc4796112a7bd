"""In what pieces the loss takes its logits, and what it holds for them. Needs no torch: the dry run reckons with it.

Two losses use it. `fused.py` has large chunks; `head.py` has small ones, for models from a shape on a CPU.
"""

# Entries of a chunk's one matrix: at a vocabulary of 49,152 on a CPU 1,365 rows, or 134 MB in bf16.
_CPU_CHUNK, _GPU_CHUNK = 1 << 26, 1 << 28
# Of these in fp32 at once: on a CPU what stays in its cache, on a GPU what fills it.
_CPU_PART, _GPU_PART = 1 << 18, 1 << 26
# Entries at once of the loss with small chunks: on a CPU 4 MB in fp32, on a GPU work for all of it.
_CPU_SMALL, _GPU_SMALL = 1 << 20, 1 << 26


def chunk_rows(rows: int, vocab: int, device: str) -> int:
    """Rows of each of the fused loss's chunks on a kind of device, "cpu" or another: few chunks, of equal sizes."""
    most = max(1, (_CPU_CHUNK if device == "cpu" else _GPU_CHUNK) // vocab)
    return -(-rows // max(1, -(-rows // most)))


def part_rows(vocab: int, device: str) -> int:
    """Rows of a chunk that are in fp32 at once."""
    return max(1, (_CPU_PART if device == "cpu" else _GPU_PART) // vocab)


def small_rows(vocab: int, device: str) -> int:
    """Rows of a chunk of the loss with small chunks."""
    return max(1, (_CPU_SMALL if device == "cpu" else _GPU_SMALL) // vocab)


def fused_bytes(rows: int, vocab: int, hidden: int, narrow: int, graded: bool) -> float:
    """What the fused loss of `rows` tokens holds at its peak on a GPU, beside the states, their gradient and the head.

    A chunk's logits, or the gradients in their place, live on while the next chunk's are made. So do the last part's
    two fp32 arrays. The weight's gradient is of the first chunk's precision. From the second chunk on it is in fp32.
    While it is made so, the first one is there too, with what is added.

    Args:
        narrow: bytes of an entry in the precision of the products.
        graded: what is done to the logits is compiled: it has no parts, and writes an array of its own.
    """
    step, most = chunk_rows(rows, vocab, "cuda"), part_rows(vocab, "cuda")
    count, parts = -(-rows // max(1, step)), -(-step // most)
    raw, weight = float(narrow * step * vocab), float(hidden * vocab)
    part = 0.0 if graded else 4.0 * vocab * min(step, most)
    last = 0.0 if graded else 4.0 * vocab * (step - (parts - 1) * most)
    summed = {1: 0.0, 2: narrow * weight}.get(count, 4 * weight)
    adding = narrow if count == 1 or narrow == 4 else 4 + 2 * narrow
    graded_or_next = 2 * raw + 2 * last if graded or count > 1 else 0.0
    in_parts = raw + 2 * part + (part if parts > 2 else last * (parts - 1))
    return max(graded_or_next + summed, in_parts + summed, raw + 2 * last + adding * weight)
