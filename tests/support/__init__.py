"""What tests share: where things lie, and (beside this file) the smallest things that really train."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]  # of the checkout
CONFIGS = ROOT / "configs"
SHARED = ROOT.parent / "shared" / "data"  # real corpora and runs, where there are any
_STUDIES = ("legal.yaml", "legal-small.yaml", "medicine-small.yaml", "smollm2-law.yaml", "study.yaml")
STUDIES = tuple(CONFIGS / name for name in _STUDIES)  # of `splitray study`
