"""Specialists of several shares of replay differ in nothing else."""

from benchmarks.replay import with_share
from splitray.config import load
from splitray.pipeline.programme import Programme
from tests.support import CONFIGS


def test_shares_of_replay_branch_off_one_base_and_one_is_the_run_s_own() -> None:
    programme = Programme.unbuilt(load(CONFIGS / "given.yaml"), "fp32")
    split = programme.final().split(0.5)
    own = programme.specialists(split)
    asked = {share: with_share(programme, share).specialists(split) for share in (0.0, 0.1, 0.3)}
    assert [r.target.key for r in asked[0.1]] == [r.target.key for r in own], "what the run has trained is not again"
    keys = {r.target.key for family in asked.values() for r in family}
    assert len(keys) == 3 * len(programme.weights)
    assert {r.target.tokens for family in asked.values() for r in family} == {r.target.tokens for r in own}
    bases = [made.base(split) for made in (programme, with_share(programme, 0.3))]
    assert bases[0] is not None and bases[0] == bases[1]
