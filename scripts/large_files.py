"""Refuse files above 1 MB: `python scripts/large_files.py FILE ...`. Data belongs in a store, not in the repository."""

import sys
from collections.abc import Sequence
from pathlib import Path

LIMIT = 1_000_000  # bytes; the largest file that belongs here, a table of 1546 measured runs, has 0.43 MB


def main(names: Sequence[str]) -> int:
    """Print every file above the limit. Returns 1 where there is one, else 0."""
    sizes = {name: Path(name).stat().st_size for name in names if Path(name).is_file()}
    large = {name: size for name, size in sizes.items() if size > LIMIT}
    for name, size in sorted(large.items()):
        print(f"{name} has {size / 1e6:.1f} MB, more than {LIMIT / 1e6:g} MB", file=sys.stderr)
    return int(bool(large))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
