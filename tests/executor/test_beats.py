"""Signs of life: which process is silent, and for how many of the coordinator's own seconds."""

from splitray.executor.beats import Beats


def ticks(beats: Beats, count: int) -> None:
    for _ in range(count):
        beats.tick()


def test_the_most_silent_process_of_a_group_is_named() -> None:
    beats = Beats()
    birth = beats.begin("base")
    assert beats.silence("base") == ("base", 0) and not beats.up("base"), "a process that never came up is not silent"
    for rank in (None, 0, 1):
        beats.hear("base", rank, birth)
    ticks(beats, 3)
    beats.hear("base", None, birth)
    beats.hear("base", 0, birth)
    ticks(beats, 2)
    assert beats.silence("base") == ("base.1", 5) and beats.ranks("base") == 2
    beats.leave("base", 1, birth)
    assert beats.silence("base")[1] == 2, "a rank that is through need say nothing"


def test_an_earlier_worker_of_the_name_does_not_speak_for_the_next() -> None:
    beats = Beats()
    first = beats.begin("ladder[0]")
    assert beats.hear("ladder[0]", None, first)
    second = beats.begin("ladder[0]")
    assert not beats.hear("ladder[0]", None, first) and not beats.up("ladder[0]")
    assert beats.hear("ladder[0]", None, second) and beats.up("ladder[0]")


def test_time_in_which_the_coordinator_stood_still_counts_for_nobody() -> None:
    beats = Beats()
    beats.hear("ladder[0]", None, beats.begin("ladder[0]"))
    assert beats.silence("ladder[0]") == ("ladder[0]", 0)
