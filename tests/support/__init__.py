"""What tests share: where things lie, and (beside this file) the smallest things that really train."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]  # of the checkout
CONFIGS = ROOT / "configs"
SHARED = ROOT.parent / "shared" / "data"  # real corpora and runs, where there are any
STUDIES = tuple(
    CONFIGS / name for name in ("legal.yaml", "legal-small.yaml", "medicine-small.yaml", "study.yaml")
)  # of `splitray study`
