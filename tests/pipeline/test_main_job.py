"""The main job as a user runs it: `python jobs/split.py` on a small corpus, killed, run again, given wrong input."""

import html
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rich.console import Console

from splitray.cli.terminal import LOG_WIDTH
from splitray.corpus import Corpus
from splitray.pipeline.run_folder import STAGES
from splitray.report import terminal
from splitray.results.summary import Summary, every_loss
from splitray.storage.store import Store
from tests.support import ROOT
from tests.support.configs import WORDS, config, write_corpus

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("main-job")
    write_corpus(home / "corpus")
    (home / "small.yaml").write_text(yaml.safe_dump(config(home / "corpus")))
    return home


def start(home: Path, *more: str) -> subprocess.Popen[str]:
    """The job as its own process; PATH is bare, as for one who calls the environment's Python by its path."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | {"PATH": "/usr/bin:/bin"}
    command = [sys.executable, str(ROOT / "jobs/split.py"), "--config", "small.yaml", *more]
    return subprocess.Popen(
        command, cwd=home, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def finish(job: subprocess.Popen[str]) -> tuple[int, str]:
    out, _ = job.communicate(timeout=1800)
    return job.returncode, out


def kill_when(job: subprocess.Popen[str], ready: Callable[[], bool]) -> None:
    """SIGKILL the driver as soon as `ready`."""
    deadline = time.monotonic() + 1200
    while not ready():
        assert job.poll() is None, f"the job ended before it could be killed: {job.communicate()[0][-2000:]}"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    job.send_signal(signal.SIGKILL)
    job.communicate()


def losses(run: Path) -> dict[str, Any]:
    return every_loss(Summary.parse(json.loads((run / "summary.json").read_text())))


@pytest.fixture(scope="module")
def undisturbed(home: Path) -> dict:
    code, out = finish(start(home, "--run-dir", "a/run"))
    assert code == 0, out[-4000:]
    return json.loads((home / "a/run/summary.json").read_text()) | {"log": out}


def test_ends_with_specialists_and_a_report(home: Path, undisturbed: dict) -> None:
    assert "report:" in undisturbed["log"] and "unsplit" in undisturbed["log"]
    assert (home / "a/run/report/index.html").stat().st_size > 10_000
    rows = undisturbed["evaluation"]["comparison"]
    assert {r["strategy"] for r in rows} == {"planned split", "unsplit", "split at zero", "split at one half"}
    assert len({r["tokens"] for r in rows}) == 1, "equal tokens means equal"
    # three vocabularies that hardly overlap: a domain's own specialist must be the best on it
    matrix = undisturbed["evaluation"]["matrix"]
    split = next(r for r in rows if r["strategy"] == "planned split")
    if split["split_fraction"] < 0.9:
        own = [m for m in matrix["models"] if m in matrix["domains"]]
        for column, domain in enumerate(matrix["domains"]):
            by_model = {m: matrix["loss"][matrix["models"].index(m)][column] for m in own}
            assert min(by_model, key=by_model.__getitem__) == domain


def test_every_line_is_ours(undisturbed: dict) -> None:
    """Messages begin with the time; after the last of them come the result's tables and nothing else."""
    lines = undisturbed["log"].splitlines()
    ours = [re.match(r"\d\d:\d\d:\d\d \S|\d\d:\d\d:\d\d    \S", line) is not None for line in lines]
    messages = len(ours) - ours[::-1].index(True)
    assert all(ours[:messages]), [line for line, our in zip(lines[:messages], ours, strict=False) if not our]
    page = Console(file=io.StringIO(), width=LOG_WIDTH, highlight=False)
    page.print(terminal(Summary.parse({k: v for k, v in undisturbed.items() if k != "log"})))
    assert lines[messages:-1] == page.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert lines[-1].startswith("report: ")
    stages = [line[9:] for line in lines if " stage " in line]
    without = [stage for stage in STAGES if stage != "exams"]
    assert stages == [f"stage {n} of 9: {stage}" for n, stage in enumerate(without, 1)]
    assert not [line for line in lines if "0/0" in line]


def test_models_load_and_generate(home: Path, undisturbed: dict) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = undisturbed["evaluation"]["base"] or {"path": None}
    folders = [s["path"] for s in undisturbed["specialists"]] + [undisturbed["base"]["path"], base["path"]]
    for folder in (home / "a/run" / f for f in folders if f):
        assert not list(folder.rglob("*.bin")) and not list(folder.rglob("*.pt"))
        model = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        inputs = tokenizer("the judge", return_tensors="pt")
        with torch.no_grad():
            out = model.generate(inputs["input_ids"], max_new_tokens=4, do_sample=False, pad_token_id=0)
        assert out.shape[1] > inputs["input_ids"].shape[1]


def test_the_finished_base_is_what_the_report_shows(home: Path, undisturbed: dict) -> None:
    """Its losses, by transformers alone, are the matrix's first row; the trunk's are not, and each says what it is."""
    import torch
    from transformers import AutoModelForCausalLM

    run, shown = home / "a/run", undisturbed["evaluation"]
    if shown["base"] is None or undisturbed["base"]["path"] is None:
        pytest.skip("this plan leaves no trunk beside a finished base")
    corpus = Corpus.open(Store(home / "a/store"), undisturbed["corpus"]["key"])
    assert shown["matrix"]["models"][0].startswith("base")

    def loss(folder: str, domain: str) -> float:
        """Nats per token over the validation text as one stream, in windows of 32."""
        model, nats = AutoModelForCausalLM.from_pretrained(run / folder).eval(), 0.0
        ends = np.cumsum(corpus.documents(domain, "validation")["tokens"].to_numpy())
        total = int(ends[ends <= 4096][-1])
        text = torch.from_numpy(np.concatenate(corpus.tokens(domain, "validation"))[:total].astype(np.int64))
        for begin in range(0, total - 1, 32):
            window = text[begin : begin + 33]
            with torch.no_grad():
                logits = model(window[None, :-1]).logits[0].double()
            nats += float(torch.nn.functional.cross_entropy(logits, window[1:], reduction="sum"))
        return nats / (total - 1)

    row = shown["matrix"]["loss"][0]
    for domain, expected in zip(shown["matrix"]["domains"], row, strict=True):
        assert loss(shown["base"]["path"], domain) == pytest.approx(expected, abs=1e-6)
    trunk = [loss(undisturbed["base"]["path"], domain) for domain in shown["matrix"]["domains"]]
    assert all(abs(one - other) > 1e-3 for one, other in zip(trunk, row, strict=True)), "the trunk is another model"
    cards = [json.loads((run / f / "splitray.json").read_text())["use"] for f in ("base", "trunk")]
    assert cards[0].startswith("to use") and cards[1].startswith("to continue training from")
    assert "base/ " in undisturbed["log"] and "trunk/ " in undisturbed["log"]


def test_the_example_of_the_readme_and_of_the_page_runs(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is taken from where it stands, and sends the text to the specialist of its words."""
    run = home / "a/run"
    monkeypatch.chdir(run)
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    (page,) = re.findall(r'<pre class="use"[^>]*>(.*?)</pre>', (run / "report/index.html").read_text(), re.DOTALL)
    readme, tutorial = (
        next(c for c in re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(), re.DOTALL) if "Router" in c)
        for name in ("README.md", "docs/tutorial.md")
    )
    assert "runs/demo/router" in readme
    for code in (html.unescape(page), readme.replace("runs/demo", str(run)), tutorial.replace("runs/demo", str(run))):
        for kind, words in WORDS.items():
            names: dict[str, Any] = {}
            text = re.sub(r'names\(\["[^"]*"\]\)', f"names([{words!r}])", code)
            assert text != code
            exec(compile(text, "the example", "exec"), names)
            assert set(names["domain"].split("_")[1:]) & set(words.split()), (kind, names["domain"])
            assert Path(names["model"].config._name_or_path).name == names["domain"]


def spent(run: Path) -> dict[str, int]:
    """By start, the tokens that its record in the ledger says, were it killed now."""
    if not (run / "ledger").is_dir():
        return {}
    records = [json.loads(path.read_text()) for path in (run / "ledger").glob("*.json")]
    return {r["start"]: sum(s["tokens"] for s in r["stages"]) for r in records}


def kept(store: Path) -> dict[str, int]:
    """By start, the tokens that it trained of all published segments, by their markers."""
    total: dict[str, int] = {}
    for path in store.glob("seg-*.json"):  # a marker appears whole
        for start, tokens in json.loads(path.read_text())["meta"]["trained_by"].items():
            total[start] = total.get(start, 0) + tokens
    return total


def test_killed_three_times_ends_the_same(home: Path, undisturbed: dict) -> None:
    """Losses, and what they needed, are the undisturbed run's. What was spent is more by what the kills lost."""
    store, run = home / "b/store/done", home / "b/run"

    def published() -> int:
        return len(list(store.glob("seg-*.json"))) if store.is_dir() else 0

    kill_when(start(home, "--run-dir", "b/run"), lambda: published() >= 6)
    assert not (run / "stages/ladder.json").exists()

    def specializing() -> bool:
        return (run / "stages/base.json").exists() and not (run / "stages/specialists.json").exists()

    kill_when(start(home, "--run-dir", "b/run"), specializing)

    def between() -> bool:
        """Inside a baseline's segment, as far as can be seen from here."""
        if not (run / "stages/specialists.json").exists():
            return False
        return (run / "stages/evaluate.json").exists() or sum(spent(run).values()) > sum(kept(store).values())

    kill_when(start(home, "--run-dir", "b/run", "--set", "training.checkpoint_seconds=1000"), between)
    code, out = finish(start(home, "--run-dir", "b/run"))
    assert code == 0, out[-4000:]
    assert losses(run) == losses(home / "a/run")

    ours, alone = (json.loads((home / f"{name}/run/summary.json").read_text()) for name in "ba")
    for name in ("tokens_needed", "flops_needed"):
        assert [s[name] for s in ours["stages"]] == [s[name] for s in alone["stages"]]
    assert [ours[f"{w}_cost"]["tokens"] for w in ("ladder", "search")] == [
        alone[f"{w}_cost"]["tokens"] for w in ("ladder", "search")
    ]
    assert (ours["starts"], alone["starts"]) == (4, 1)
    needed, undisturbed_spent, total = (
        sum(s[name] or 0 for s in summary["stages"])
        for summary, name in ((alone, "tokens_needed"), (alone, "tokens_spent"), (ours, "tokens_spent"))
    )
    # where trials of the search meet decides where their trunk is cut, so that a run may train a little more
    assert needed <= undisturbed_spent == sum(kept(home / "a/store/done").values())
    said, left = spent(run), kept(store)
    lost = {start: max(0, said[start] - left.get(start, 0)) for start in said}
    assert len(said) == 4 and needed <= sum(left.values())
    assert total == sum(left.values()) + sum(lost.values())


def test_again_trains_nothing(home: Path, undisturbed: dict) -> None:
    code, out = finish(start(home, "--run-dir", "a/run"))
    assert code == 0 and "nothing to train" in out and "report:" in out


def flip(path: Path) -> None:
    """One bit in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_what_rots_between_two_starts_is_named_and_made_anew(home: Path, undisturbed: dict) -> None:
    """A table, a law, a record, a corpus shard, a specialist and a measured loss: the same numbers in the end."""
    shutil.copytree(home / "a", home / "rot")
    run, attempts = home / "rot/run", home / "rot/store/attempts"
    specialist = undisturbed["specialists"][0]
    (loss,) = (f for f in attempts.glob(f"loss-{specialist['key']}-*-{specialist['domain']}/*/documents.npy"))
    rotten = [run / "runs.parquet", run / "law.json", loss, *attempts.glob("corpus-*/*/shards/000-train-0000.npy")]
    rotten += attempts.glob(f"{specialist['key']}/*/weights.safetensors")
    assert len(rotten) == 5
    for path in rotten:
        flip(path)
    (run / "stages/specialists.json").write_bytes(b"")
    said = ""
    for _ in range(6):
        code, out = finish(start(home, "--run-dir", "rot/run"))
        said += out
        if code == 0:
            break
        assert code == 1 and "start the run again, and it is made anew" in out.replace("\n", " "), out
    assert code == 0, said[-4000:]
    for name in ("runs.parquet has SHA-256", "law.json has SHA-256", "specialists.json is not JSON"):
        assert name in said
    for path in rotten[2:]:
        assert path.relative_to(home / "rot/store").as_posix() in said.replace("\n", ""), path
    assert losses(run) == losses(home / "a/run")


def test_more_budget_trains_only_what_is_missing(home: Path, undisturbed: dict) -> None:
    code, out = finish(start(home, "--run-dir", "a/more", "--set", "budget=98304", "--until", "specialists"))
    assert code == 0, out[-4000:]
    stages = {s["stage"]: s for s in json.loads((home / "a/more/summary.json").read_text())["stages"]}
    assert stages["ladder"]["tokens_trained"] == 0 and stages["ladder"]["segments"] == 0
    production = stages["base"]["tokens_trained"] + stages["specialists"]["tokens_trained"]
    assert 0 < production <= 98304


@pytest.mark.parametrize(
    ("more", "code", "told"),
    [
        (["--set", "budget=60000"], 2, "budget: 49152 -> 60000"),
        (["--set", "training.zero_stag=2"], 2, "unknown key training.zero_stag"),
        (["--set", "training.global_batch_size=many"], 2, "training.global_batch_size: "),
        (["--set", "resources.base_workers=3"], 2, "resources.base_workers = 3"),
        (["--config", "none.yaml"], 2, "none.yaml: no such file"),
    ],
)
def test_wrong_settings(home: Path, undisturbed: dict, more: list[str], code: int, told: str) -> None:
    before = sorted((home / "a/run").rglob("*"))
    got, out = finish(start(home, "--run-dir", "a/run", *more))
    assert (got, told in out) == (code, True), out
    assert len(out.strip().splitlines()) == 1 and "Traceback" not in out
    assert sorted((home / "a/run").rglob("*")) == before


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("corpus.sources=[missing/folder]", "missing/folder"),
        ("corpus.domains=5000", "5000"),
        ("ladder.max_share=0.01", "ladder.max_share"),
    ],
)
def test_wrong_input_found_late(home: Path, undisturbed: dict, change: str, told: str) -> None:
    name = change.split("=")[0]
    code, out = finish(start(home, "--run-dir", f"a/{name}", "--set", change, "--set", "ladder.domains=1"))
    assert code == 2 and "Traceback" not in out, out[-3000:]
    assert told in out.strip().splitlines()[-1]
    assert not (home / f"a/{name}/summary.json").exists() and not (home / f"a/{name}/report").exists()
