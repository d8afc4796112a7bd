"""What serving needs beside the engines of a run, asked before anything is started."""

from importlib.util import find_spec

from splitray.errors import UserError


def check_installed(engine: str) -> None:
    """Refuse to serve by an engine that is not installed. vLLM is looked for, and not imported: that takes seconds.

    Raises:
        UserError: naming the extra.
    """
    if find_spec("fastapi") is None:
        raise UserError("splitray serve needs Ray Serve: pip install 'splitray[cpu,serve]', or 'splitray[gpu,serve]'")
    if engine == "vllm" and find_spec("vllm") is None:
        raise UserError(
            "--engine vllm needs vLLM, which is not installed: pip install 'splitray[gpu,serve-gpu]' in an environment "
            "of its own, without constraints.txt. --engine transformers works without"
        )
