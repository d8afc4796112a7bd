"""The words of a verdict."""

HOLDS, PART, FAILS, OPEN = "holds", "holds in part", "does not hold here", "not yet measured"
COMMAND = "`python benchmarks/equal_compute.py --part {}`"
Claim = tuple[str, str, str, str]  # what is claimed, what was measured, the verdict, the command


def verdict(good: bool, fair: bool) -> str:
    return HOLDS if good else PART if fair else FAILS
