"""Where a first configuration reads from, and whether that is a folder of text at all."""

import os
from pathlib import Path

from splitray.errors import UserError

_WEIGHTS = (".safetensors", ".bin", ".gguf", ".pt", ".pth")


def source_of(folder: str | Path) -> str:
    """The folder as `corpus.sources` has it: absolute where it is local, so that it works from every folder."""
    text = str(folder)
    return text if "://" in text else str(Path(text).expanduser().resolve())


def check_folder(folder: str | Path) -> None:
    """Refuse what holds no documents, and a folder into which the run would write.

    Raises:
        UserError: it is empty, a run folder, a store or a model, or it holds the current folder.
    """
    source = source_of(folder)
    path = Path(source)
    if "://" in source or not path.is_dir():
        return  # a file or an address: the corpus says what is wrong with it
    names = {entry.name for entry in path.iterdir()}
    if not names:
        raise UserError(f"{folder} is empty: give a folder of text, JSON, CSV, Parquet or Arrow files")
    if what := _no_corpus(path, names):
        raise UserError(f"{folder} is {what}: give the folder of its text")
    if Path.cwd().is_relative_to(path.resolve()):
        raise UserError(
            f"{folder} holds the current folder, where the run would write runs/NAME and read it as text at the next "
            "start: change to a folder outside it first"
        )


def _no_corpus(path: Path, names: set[str]) -> str | None:
    if {"stages", "config.yaml"} <= names:
        return "a run folder of splitray"
    if {"attempts", "done"} <= names:
        return "a store of splitray"
    if "config.json" in names and any(name.endswith(_WEIGHTS) for name in names):
        return "a model"
    if {"manifest.json", "shards"} <= names:
        return "a corpus that is built already"
    return None


def check_output(out: Path, folder: str | Path, force: bool) -> None:
    """Refuse a file that exists, unless it may be overwritten, and one that the corpus would read as text.

    Raises:
        UserError: it does.
    """
    if out.exists() and not (force and out.is_file()):
        cure = "give another --out, or --force to replace it" if out.is_file() else "give the name of a file"
        raise UserError(f"--out {out} exists already: {cure}")
    if not out.resolve().parent.is_dir():
        raise UserError(f"--out {out}: its folder does not exist")
    source = Path(source_of(folder))
    if source.is_dir() and out.resolve().is_relative_to(source.resolve()):
        raise UserError(f"--out {out} lies in {folder}, where it would be read as text: give a file outside it")


def write(out: Path, text: str, force: bool) -> None:
    """Write a file whole or not at all.

    Raises:
        UserError: it exists meanwhile and may not be replaced, or it cannot be written.
    """
    draft = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8")
        if force:
            draft.replace(out)
        else:
            os.link(draft, out)  # unlike a rename, refuses to replace
    except FileExistsError:
        raise UserError(f"--out {out} exists already: give another --out, or --force to replace it") from None
    except OSError as error:
        raise UserError(f"--out {out} cannot be written: {error.strerror or error}") from error
    finally:
        draft.unlink(missing_ok=True)
