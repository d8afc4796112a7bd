"""The text that lies on every machine that can install splitray: the demo's corpus, with no download.

Four kinds are taken, each with an equal share of the bytes: Python code, C and C++ (headers), prose (package
descriptions and documentation) and licences. What a kind cannot fill the others take.
"""

import os
import stat
import sysconfig
from pathlib import PurePosixPath

from splitray.storage.checksum import fingerprint

_LICENCE = ("LICENSE", "LICENCE", "COPYING", "NOTICE", "THIRDPARTY", "THIRD_PARTY", "EULA")
_ENDINGS = {
    ".py": "code",
    **dict.fromkeys((".h", ".hpp", ".hh", ".cuh", ".c", ".cc", ".cpp", ".cu"), "headers"),
    **dict.fromkeys((".md", ".rst", ".txt"), "prose"),
}
_KINDS = ("code", "headers", "licences", "prose")
# Test data is not prose; torch's ATen/ops is one template printed 6,000 times.
_SKIPPED = {"__pycache__", "site-packages", "node_modules", "test", "tests", "testing", "data"}
_OWN = (".", "splitray")  # our own code and description would change the corpus with every version of it
_SKIPPED_PATHS = ("torch/include/ATen/ops",)
_LARGEST = 1 << 17  # bytes: no file is above 1 % of the text, and generated tables stay out


def kind_of(path: str) -> str | None:
    """The kind of text that a file of a Python environment holds, None where it is none of the four."""
    name = PurePosixPath(path)
    ending, folder = name.suffix.lower(), name.parent
    if ending in ("", ".txt", ".md", ".rst") and (
        name.name.upper().startswith(_LICENCE) or "licenses" in folder.parts[-2:]
    ):
        return "licences"
    if folder.suffix in (".dist-info", ".egg-info"):
        return "prose" if name.name in ("METADATA", "PKG-INFO") else None
    return _ENDINGS.get(ending)


def environment_files(limit: int) -> list[tuple[str, str]]:
    """(root folder, relative path) of at most `limit` bytes of text, chosen by hash of the relative path and so
    fixed for one set of installed packages; sorted by relative path."""
    found: dict[str, list[tuple[str, str, str, int]]] = {kind: [] for kind in _KINDS}
    seen: set[str] = set()
    for scheme in ("purelib", "platlib", "include", "stdlib"):
        root = sysconfig.get_path(scheme)
        for folder, folders, names in os.walk(root):
            below = "" if folder == root else folder[len(root) + 1 :].replace(os.sep, "/") + "/"
            folders[:] = [
                f for f in folders if not (f in _SKIPPED or f.startswith(_OWN) or below + f in _SKIPPED_PATHS)
            ]
            for path in (below + name for name in names):
                kind = kind_of(path)
                if kind is None or path in seen:
                    continue
                status = os.lstat(f"{root}/{path}")
                if stat.S_ISREG(status.st_mode) and 0 < status.st_size <= _LARGEST:
                    seen.add(path)
                    found[kind].append((fingerprint(path), root, path, status.st_size))
    chosen: list[tuple[str, str]] = []
    left = limit
    # Kinds with the least text first: what they leave of their share goes to the others.
    for rank, kind in enumerate(sorted(_KINDS, key=lambda k: (sum(f[3] for f in found[k]), k))):
        share = left // (len(_KINDS) - rank)
        for _, root, path, size in sorted(found[kind]):
            if size <= share:
                share -= size
                left -= size
                chosen.append((root, path))
    return sorted(chosen, key=lambda f: f[1])
