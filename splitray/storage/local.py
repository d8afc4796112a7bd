"""Copies on this machine's own disk of small folders that lie elsewhere. They go when the process ends."""

import shutil
from functools import lru_cache
from pathlib import Path

from splitray.storage.cache import temporary_folder
from splitray.storage.folder import Folder
from splitray.storage.store import Published


@lru_cache(maxsize=8)
def local_copy(address: str) -> Path:
    """A local folder with the files of a small folder: that folder itself where it is local, else a copy.

    Made once a process: what changes there later is not seen here.
    """
    folder = Folder(address)
    if folder.is_local:
        return folder.local_path()
    copy = temporary_folder("copy")
    for name in folder.names(recursive=True):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes(folder.read(name))
    return copy


def local_part(published: Published, prefix: str, files: dict[str, Path]) -> Path:
    """A local folder with the files of an artifact below a prefix: the store's own where that is local, else a copy.

    Args:
        files: local paths of those files by their names in the artifact, fetched and checked.
    """
    if published.folder.is_local:
        return published.folder.local_path(prefix)
    copy = temporary_folder(prefix)
    for name, path in files.items():
        target = copy / name.removeprefix(f"{prefix}/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return copy
