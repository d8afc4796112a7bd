"""The choice between fp32 and bf16: one for a store and a kind of machine, whoever measures what."""

import json
import threading
from pathlib import Path

import pytest

from splitray.errors import CorruptError
from splitray.storage.store import Store
from splitray.training.precision import choose, key_of, recorded

FP32, BF16 = {"fp32": 100.0, "bf16": 90.0}, {"fp32": 100.0, "bf16": 210.0}


def test_the_first_choice_is_everybody_s(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = choose(store, "a CPU", lambda: BF16)
    assert (first.precision, first.why, first.tokens_per_second) == ("bf16", "measured", BF16)

    def again() -> dict[str, float]:
        raise AssertionError("measured twice")

    later = choose(Store(tmp_path), "a CPU", again)
    assert (later.precision, later.tokens_per_second) == ("bf16", BF16) and later.why != "measured"


def test_each_kind_of_machine_has_its_own(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert choose(store, "a CPU", lambda: BF16).precision == "bf16"
    assert choose(store, "another CPU", lambda: FP32).precision == "fp32"
    assert recorded(store, "a third") is None


def test_near_a_tie_fp32_is_chosen(tmp_path: Path) -> None:
    assert choose(Store(tmp_path), "a CPU", lambda: {"fp32": 100.0, "bf16": 109.0}).precision == "fp32"


def test_who_measures_at_once_and_differently_ends_with_one_choice(tmp_path: Path) -> None:
    """Both have found nothing and have measured before either writes."""
    both, found = threading.Barrier(2, timeout=60), dict[str, str]()

    def start(name: str, speeds: dict[str, float]) -> None:
        def measure() -> dict[str, float]:
            both.wait()
            return speeds

        found[name] = choose(Store(tmp_path), "a CPU", measure).precision

    for round_, (one, two) in enumerate([(FP32, BF16), (BF16, FP32)] * 5):
        Store(tmp_path).invalidate(key_of("a CPU"))
        threads = [threading.Thread(target=start, args=(f"{round_}-{n}", s)) for n, s in enumerate((one, two))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found[f"{round_}-0"] == found[f"{round_}-1"]


def test_a_torn_record_is_replaced_and_a_wrong_one_refused(tmp_path: Path) -> None:
    store, marker = Store(tmp_path), tmp_path / f"done/{key_of('a CPU')}.json"
    choose(store, "a CPU", lambda: BF16)
    marker.write_bytes(marker.read_bytes()[:40])
    assert choose(store, "a CPU", lambda: FP32).precision == "fp32"
    assert json.loads(marker.read_bytes())["meta"]["precision"] == "fp32"
    store.invalidate(key_of("a CPU"))
    store.attempt(key_of("a CPU")).publish({"precision": "int3"})
    with pytest.raises(CorruptError, match="'int3'"):
        recorded(store, "a CPU")
