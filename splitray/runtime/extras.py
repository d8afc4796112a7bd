"""What the core install lacks: the engines, which come with an extra."""

from collections.abc import Iterator
from contextlib import contextmanager

from splitray.errors import UserError

_ENGINES = frozenset(
    (
        *("ray", "torch", "deepspeed", "transformers", "tokenizers", "safetensors", "sklearn", "jinja2", "pandas"),
        *("faiss", "huggingface_hub"),
    )
)


@contextmanager
def engines_needed(what: str) -> Iterator[None]:
    """Say which extra to install where the block meets an engine that is not installed.

    Args:
        what: the function or command that needs the engines, for the message.

    Raises:
        UserError: an engine is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _ENGINES:
            raise
        raise UserError(
            f"{what} needs {error.name}, which is not installed: pip install 'splitray[cpu]', or 'splitray[gpu]' on a "
            "machine with GPUs. Fitting a law and planning work without"
        ) from error
