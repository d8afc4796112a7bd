"""The command line: a real table in, a plan out; wrong input in one line; no heavy import."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from splitray.cli.plan import main
from splitray.errors import UserError
from splitray.law import Law, Plan, fit, plan
from splitray.units import human, parse_count
from tests.support import ROOT
from tests.support.laws import BUDGET, CONSTANTS, K, N, ladder, simulate

FORM = "shared_specific"
ASKED = ["--params", "1.3B", "--budget", "240e9", "--domains", "16"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("runs") / "runs.csv"
    pa.csv.write_csv(simulate(Law.known(FORM, CONSTANTS[FORM]), ladder()), path)
    return str(path)


def test_plan_from_a_table(runs: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "plan.json"
    assert main([runs, *ASKED, "--form", FORM, "--bootstrap", "100", "--json", str(out)]) == 0
    law = fit(runs, form=FORM, bootstrap=100)
    expected = plan(law, params=N, budget=BUDGET, domains=K)
    assert Plan.load(out) == expected
    record = json.loads(out.read_text())
    for key in ("split_fraction", "pretrain_tokens", "specialize_tokens", "predicted_loss", "unsplit_loss"):
        assert record[key]["low"] <= record[key]["value"] <= record[key]["high"]
    assert set(record["constants"]) == set(law.constants)
    text = capsys.readouterr().out
    for word in (f"{expected.split_fraction.value:.3f}", f"{expected.unsplit_loss.value:.4f}", "compute multiplier"):
        assert word in text
    assert "split threshold" in text and "80% interval" in text


def test_the_number_of_domains_is_chosen_from_a_table_of_several(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = []
    for number, gap in ((4, 0.05), (8, 0.3)):
        rows = simulate(Law.known("mixture_gap", CONSTANTS["mixture_gap"] | {"G": gap}), ladder())
        parts.append(rows.append_column("clustering", pa.array([number] * rows.num_rows)))
    path, out = tmp_path / "runs.parquet", tmp_path / "plan.json"
    pa.parquet.write_table(pa.concat_tables(parts), path)
    asked = [str(path), *ASKED[:4], "--form", "mixture_gap", "--bootstrap", "0"]
    assert main([*asked, "--domains", "4,8", "--json", str(out)]) == 0
    text = capsys.readouterr().out
    assert (
        Plan.load(out).domains == 8 and "gain over unsplit" in text and text.index("planned below") > text.index("4 ")
    )
    assert main([*asked, "--domains", "4,16"]) == 2
    assert "no row has clustering = 16; the table has 4, 8" in capsys.readouterr().err


def test_same_seed_same_plan(runs: str, tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        assert main([runs, *ASKED, "--bootstrap", "30", "--seed", "3", "--json", str(tmp_path / name)]) == 0
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_saved_law_plans_alike_and_flops_time_cost(
    runs: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    law, first, second = (str(tmp_path / name) for name in ("law.json", "first.json", "second.json"))
    common = ["--domains", "16", "--tokens-per-second", "2M", "--price-per-hour", "30"]
    assert (
        main(
            [runs, "--flops", "1e21", *common, "--form", FORM, "--bootstrap", "40", "--save-law", law, "--json", first]
        )
        == 0
    )
    assert main([law, "--flops", "1e21", *common, "--json", second]) == 0
    one, two = Plan.load(first), Plan.load(second)
    assert (one.params, one.split_fraction, one.cost) == (two.params, two.split_fraction, two.cost)
    assert one.best_params is not None and 6 * one.params * one.budget == pytest.approx(1e21)
    assert one.cost == pytest.approx(30 * one.budget / 2e6 / 3600)
    assert "best size" in capsys.readouterr().out


def test_named_domains_limits_and_candidates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    law = Law.known(FORM, CONSTANTS[FORM])
    tables = [simulate(law, ladder(), seed=s) for s in (0, 1)]
    both = pa.concat_tables(
        [t.set_column(3, "domain", pa.array([name] * len(t))) for t, name in zip(tables, ("code", "law"))]
    )
    pa.parquet.write_table(both, tmp_path / "runs.parquet")
    pa.csv.write_csv(tables[0].select([0, 1, 2]).slice(0, 8), tmp_path / "candidates.csv")
    arguments = [str(tmp_path / "runs.parquet"), "--params", "1.3B", "--budget", "240B", "--form", FORM]
    arguments += ["--domains", "code,law", "--weights", "0.75,0.25", "--per-domain", "--bootstrap", "40"]
    arguments += ["--min-pretrain", "30B", "--available", "2B", "--epochs", "3"]
    arguments += ["--candidates", str(tmp_path / "candidates.csv"), "--json", str(tmp_path / "plan.json")]
    assert main(arguments) == 0
    made = Plan.load(tmp_path / "plan.json")
    assert [part.domain for part in made.per_domain] == ["code", "law"]
    assert all(part.specialize_tokens.value <= 6e9 * (1 + 1e-9) for part in made.per_domain)
    assert made.epochs is not None and made.epochs <= 3 + 1e-9
    text = capsys.readouterr().out
    assert "run next" in text and "code" in text and "epochs" in text


def test_real_pilot_table(shared_data: Path, tmp_path: Path) -> None:
    """Real runs of two domains: the plan is the best of its law along the line, and the warnings say what lacks."""
    pilot, out = str(shared_data / "runs" / "pilot_two_stage.csv"), tmp_path / "plan.json"
    asked = ["--params", "1M", "--budget", "20M", "--domains", "law_statutes,code_c", "--form", "mixture_gap"]
    assert main([pilot, *asked, "--bootstrap", "50", "--json", str(out)]) == 0
    made, law = Plan.load(out), fit(pilot, form="mixture_gap")
    fractions = np.linspace(0, 1, 2001)
    line = [
        law.predict(1e6, fractions * 2e7, (1 - fractions) * 1e7, domain=name) for name in ("law_statutes", "code_c")
    ]
    assert made.predicted_loss.value == pytest.approx(np.mean(line, axis=0).min(), abs=1e-5)
    assert [part.domain for part in made.per_domain] == ["law_statutes", "code_c"]
    assert any("sizes" in str(warning) for warning in made.warnings), "three sizes are too few"


def test_at_most_three_warnings_are_printed_and_the_file_has_all(tmp_path: Path, capsys: Any) -> None:
    """Of runs without D' no split can be planned, and the printed warnings begin with that."""
    runs, out = tmp_path / "runs.csv", tmp_path / "plan.json"
    lines = [f"{n},{d},0,all,{2 + n**-0.3 + d**-0.3}" for n in (1e6, 4e6) for d in (1e8, 3e8, 9e8)]
    runs.write_text("params,pretrain_tokens,specialize_tokens,domain,loss\n" + "\n".join(lines))
    asked = ["--params", "1B", "--budget", "100B", "--domains", "4", "--form", "chinchilla", "--bootstrap", "0"]
    assert main([str(runs), *asked, "--json", str(out)]) == 0
    made, printed = Plan.load(out), " ".join(capsys.readouterr().out.split())
    codes = [warning.code for warning in made.warnings]
    assert codes[0] == "no_specialization" and len(codes) > 3
    assert f"! and {len(codes) - 3} more: --json writes them all" in printed
    assert printed.count("! ") == 4 and printed.index("nothing about splitting") < printed.index("more: --json")


def test_places_may_be_file_uris(runs: str, tmp_path: Path) -> None:
    asked = [*ASKED, "--form", FORM, "--bootstrap", "0", "--json", (tmp_path / "a plan.json").as_uri()]
    assert main([Path(runs).as_uri(), *asked]) == 0
    assert Plan.load(tmp_path / "a plan.json").params == 1.3e9


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing.csv", *ASKED], "missing.csv"),
        (["RUNS"], "--domains"),
        (["s3://bucket/runs.csv", *ASKED], "table of runs s3://bucket/runs.csv: splitray plan reads"),
        (["RUNS", *ASKED, "--json", "gs://bucket/plan.json"], "--json gs://bucket/plan.json: splitray plan reads"),
        (["s3:/bucket/runs.csv", *ASKED], "write s3://bucket/runs.csv"),
        (["RUNS", "--domains", "16"], "--params"),
        (["RUNS", "--domains", "0", "--params", "1B", "--budget", "1T"], "domains"),
        (["RUNS", "--domains", "16", "--params", "1B", "--budget", "0"], "budget"),
        (["RUNS", "--domains", "16", "--params", "1B", "--budget", "-5"], "budget"),
        (["RUNS", "--domains", "16", "--params", "1B", "--budget", "nan"], "nan"),
        (["RUNS", "--domains", "16", "--params", "0", "--flops", "1e21"], "params"),
        (["RUNS", "--domains", "16", "--params", "1Z", "--budget", "1T"], "1Z"),
        (["RUNS", "--domains", "16", "--budget", "1T", "--flops", "1e21"], "one of them"),
        (["RUNS", *ASKED, "--form", "klingon"], "klingon"),
        (["RUNS", *ASKED, "--level", "2", "--form", FORM, "--bootstrap", "0"], "level"),
        (["RUNS", *ASKED, "--bootstrap", "-1", "--form", FORM], "bootstrap"),
        (["RUNS", *ASKED, "--weights", "a,b"], "weights"),
        (["RUNS", "--params", "1B", "--budget", "1T", "--domains", "a,b", "--form", FORM, "--bootstrap", "0"], "'a'"),
        (["RUNS", *ASKED, "--price-per-hour", "3"], "tokens-per-second"),
        (["RUNS", *ASKED, "--form", FORM, "--bootstrap", "0", "--json", "/dev/null/plan.json"], "plan.json"),
        (["RUNS", *ASKED, "--form", FORM, "--bootstrap", "0", "--candidates", "none.csv"], "bootstrap"),
    ],
)
def test_wrong_input_is_one_line_and_code_2(
    runs: str, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([runs if word == "RUNS" else word for word in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and said in captured.err and captured.out == ""


def test_the_script_needs_no_ray_and_no_torch(runs: str) -> None:
    """The real script in a process of its own, where the engines are not installed."""
    check = f"""
import runpy, sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {{"ray", "torch", "deepspeed", "transformers", "pandas", "sklearn", "faiss"}}:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Missing())
sys.argv = ["plan.py", {runs!r}, *{[*ASKED, "--form", FORM, "--bootstrap", "20"]!r}]
try:
    runpy.run_path({str(ROOT / "jobs" / "plan.py")!r}, run_name="__main__")
except SystemExit as done:
    assert done.code == 0, done.code
assert "matplotlib" not in sys.modules, "drawing is not asked for"
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "split fraction" in done.stdout and done.stderr == ""


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1.3e9", 1.3e9),
        ("1.3B", 1.3e9),
        ("240 b", 240e9),
        ("20M", 20e6),
        ("1_000", 1000),
        ("1,300", 1300),
        ("12,345,678.5", 12345678.5),
        ("1,300M", 1.3e9),
        ("3T", 3e12),
        (".5k", 500),
        ("7", 7),
    ],
)
def test_counts_as_people_write_them(text: str, number: float) -> None:
    assert parse_count(text) == pytest.approx(number)


NO_NUMBER = ["", "B", "1.3X", "1e", "0x10", "1.3 billion", "nan", "inf", "--"]
NO_THOUSANDS = ["1,3B", "1,3", "1300,000", "1,,300", "1,3000", "1.5,000", ",300", "1,300,", "1_0,000"]


@pytest.mark.parametrize("text", [*NO_NUMBER, *NO_THOUSANDS])
def test_counts_that_are_none(text: str) -> None:
    with pytest.raises(UserError, match="is not a number") as told:
        parse_count(text)
    assert repr(text) in str(told.value) and ("may only part thousands" in str(told.value)) == ("," in text)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1.3e9, "1.3B"),
        (999.96e9, "1T"),
        (240e9, "240B"),
        (0, "0"),
        (12, "12"),
        (1500, "1.5K"),
        (5.76e23, "5.76e+23"),
        (None, "-"),
    ],
)
def test_counts_as_people_read_them(number: float | None, text: str) -> None:
    assert human(number) == text


def test_hours_beside_a_budget_and_alone(runs: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, alone = tmp_path / "hours.json", tmp_path / "plan.json"
    asked = ["--form", FORM, "--bootstrap", "20", "--hours", "3000", "--speeds", "410M:74000,1.3B:24000:20000"]
    assert main([runs, *ASKED, *asked, "--hours-json", str(out)]) == 0
    record, text = json.loads(out.read_text()), capsys.readouterr().out
    assert [size["speed"]["params"] for size in record["sizes"]] == [410e6, 1.3e9]
    chosen = record["sizes"][record["best"]]
    assert f"In 3,000 accelerator-hours: 16 models of {human(chosen['speed']['params'])}" in text.replace("\n", " ")
    spent = chosen["pretrain_tokens"]["value"] / chosen["speed"]["shared"]
    after = chosen["speed"]["special"] or chosen["speed"]["shared"]
    assert (spent + 16 * chosen["specialize_tokens"]["value"] / after) / 3600 == pytest.approx(3000)
    assert "split fraction s" in text, "the plan at equal tokens stands beside it"
    # without a budget, the plan at equal tokens is for the chosen size and its tokens
    assert main([runs, "--domains", "16", *asked, "--json", str(alone)]) == 0
    plan_alone = Plan.load(alone)
    assert (plan_alone.params, plan_alone.budget) == (chosen["speed"]["params"], chosen["unsplit_tokens"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--hours", "10"], "--hours needs --speeds"),
        (["--speeds", "1B:1"], "--speeds needs --hours"),
        (["--hours", "10", "--speeds", "1B"], "--speeds '1B': N:RATE or N:RATE:AFTER is needed"),
        (["--hours", "10", "--speeds", "1B:fast"], "--speeds '1B:fast'"),
        (["--hours", "10", "--speeds", "1B:9", "--ladder-hours", "-1"], "ladder_hours=-1"),
    ],
)
def test_wrong_hours_are_refused(options: list[str], said: str, runs: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([runs, *ASKED, "--form", FORM, "--bootstrap", "0", *options]) == 2
    assert said in capsys.readouterr().err
