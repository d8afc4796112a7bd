"""The public door: what `import splitray` gives, what it costs, what it needs, and what it leaves alone."""

import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pytest
import yaml

import splitray
from splitray.law import Law
from tests.support import ROOT
from tests.support.configs import PLAIN, config, write_corpus
from tests.support.laws import CONSTANTS, ladder, simulate

DOOR = {"load_config", "run", "dry_run", "forecast", "prove", "build_corpus", "Corpus", "fit", "plan", "Law", "Plan"}
DOOR |= {"Router", "Store", "draft_config", "load_mixture", "Mixture", "Sampling"}
HEAVY = {
    "numpy",
    "scipy",
    "pyarrow",
    "torch",
    "ray",
    "pydantic",
    "yaml",
    "rich",
    "matplotlib",
    "pandas",
    "transformers",
}


def python(code: str, *arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=cwd,
        env=kept | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )


def test_importing_it_imports_nothing_else() -> None:
    done = python("import sys, splitray; print(*{n.partition('.')[0] for n in sys.modules})")
    assert done.returncode == 0 and set(done.stdout.split()) & HEAVY == set(), done


def test_every_name_is_there_and_documented() -> None:
    assert set(splitray.__all__) == DOOR <= set(dir(splitray))
    for name in DOOR:
        value = getattr(splitray, name)
        documentation = inspect.getdoc(value) or ""
        assert len(documentation) > 60, name
        if inspect.isfunction(value):
            for section in ("Args:", "Returns:", "Raises:"):
                assert section in documentation, (name, section)
            arguments = documentation.partition("Args:")[2].partition("Returns:")[0]
            assert all(f"{parameter}:" in arguments for parameter in inspect.signature(value).parameters), name
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        splitray.trian  # noqa: B018


def test_modules_are_modules() -> None:
    """No function hides a module of its name: `import splitray.x.y as z` gives the module."""
    code = "import importlib, pkgutil, types, sys, splitray\n"
    code += "for m in pkgutil.walk_packages(splitray.__path__, 'splitray.'):\n"
    code += "    if m.name.startswith(('splitray.law', 'splitray.cli', 'splitray.api')) and '__main__' not in m.name:\n"
    code += "        importlib.import_module(m.name); parent, _, leaf = m.name.rpartition('.')\n"
    code += "        assert isinstance(getattr(sys.modules[parent], leaf), types.ModuleType), m.name\n"
    done = python(code)
    assert done.returncode == 0, done.stderr[-1500:]


CORE_ONLY = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"ray", "torch", "deepspeed", "transformers", "tokenizers", "safetensors", "sklearn",
                                  "faiss", "pandas", "jinja2"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
import splitray
from splitray.cli.main import main
from splitray.errors import UserError

runs, config = sys.argv[1:]
law = splitray.fit(runs, form="chinchilla")
plan = splitray.plan(law, params=1e8, budget=1e10, domains=4)
print("plan", plan.split_fraction.value, isinstance(plan, splitray.Plan), isinstance(law, splitray.Law))
splitray.Corpus, splitray.Store
print("foreseen", len(splitray.dry_run(config).parts))
for call in (lambda: splitray.run(config), lambda: splitray.build_corpus(splitray.load_config(config), "store")):
    try:
        call()
    except UserError as error:
        print("refused", error)
asked = ["plan", runs, "--params", "100M", "--budget", "10B", "--domains", "4", "--form", "chinchilla"]
print("codes", main([*asked, "--bootstrap", "0"]), main(["settings", "seed"]), main(["run", "--config", config]))
"""


def test_the_core_install_plans_and_names_the_extra(tmp_path: Path) -> None:
    """Where the engines are not installed."""
    pa.csv.write_csv(simulate(Law.known("shared_specific", CONSTANTS["shared_specific"]), ladder()), tmp_path / "r.csv")
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(PLAIN))
    done = python(CORE_ONLY, str(tmp_path / "r.csv"), str(tmp_path / "c.yaml"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = done.stdout.splitlines()
    assert any(line.startswith("plan") and line.endswith("True True") for line in lines)
    refused = [line for line in lines if line.startswith("refused")]
    assert len(refused) == 2 and all("pip install 'splitray[cpu]'" in line for line in refused), refused
    assert any(line.startswith("foreseen") for line in lines), "the dry run reckons without the engines"
    for name in ("run", "build_corpus"):
        assert any(f"splitray.{name} needs " in line for line in refused), refused
    assert lines[-1] == "codes 0 0 2" and done.stderr.startswith("splitray: ") and "Traceback" not in done.stderr


def test_a_wrong_stage_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    from splitray.errors import UserError

    (tmp_path / "c.yaml").write_text(yaml.safe_dump(PLAIN))
    with pytest.raises(UserError, match=r"stage 'lader' is not known.*did you mean ladder\?"):
        splitray.run(tmp_path / "c.yaml", until="lader", run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


SCRIPT = """
import os, signal, sys, threading
import splitray

def state():
    kept = {k: v for k, v in os.environ.items() if k != "KMP_DUPLICATE_LIB_OK"}  # set by the import of scikit-learn
    return kept, signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT), sys.stdout, sys.stderr

signal.signal(signal.SIGTERM, lambda number, frame: None)
before, lines = state(), []
result = splitray.run(sys.argv[1], until="corpus", run_dir="run", log=lines.append)
assert result.done == ("corpus",) and result.plan is None and result.losses == (), result
assert any(line.startswith("run folder") for line in lines) and len(result.summary.domains) == 3
import ray
assert not ray.is_initialized(), "the Ray that was started is left again"
config = splitray.load_config(sys.argv[1])
corpus = splitray.build_corpus(config, "store")
assert corpus.domains == [d.name for d in result.summary.domains], "found in the store, by another Ray"
again = splitray.run(config, until="corpus", run_dir="run")
assert again.summary == result.summary
assert state() == before, [k for k in state()[0] if before[0].get(k) != os.environ.get(k)]
print("as it was")
"""


@pytest.mark.ray
@pytest.mark.slow
def test_a_script_runs_and_stays_as_it_was(tmp_path: Path) -> None:
    """Signals, PATH and environment, with a Ray that is started for each call."""
    write_corpus(tmp_path / "corpus")
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config(tmp_path / "corpus")))
    done = python(SCRIPT, str(tmp_path / "c.yaml"), cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.endswith("as it was\n"), done.stdout + done.stderr[-4000:]


@pytest.mark.ray
@pytest.mark.slow
def test_a_notebook_runs_to_the_end_in_its_own_ray(tmp_path: Path, ray_cluster: None) -> None:
    """The Ray that is there is used and kept; the result says where everything lies, and what was measured."""
    import ray

    write_corpus(tmp_path / "corpus")
    before = ray.get_runtime_context().get_job_id()
    settings = splitray.load_config(_written(tmp_path, config(tmp_path / "corpus")))
    result = splitray.run(settings, run_dir=tmp_path / "run")
    assert ray.is_initialized() and ray.get_runtime_context().get_job_id() == before
    assert result.done[-1] == "report" and result.store == str(tmp_path / "store")
    assert isinstance(result.plan, splitray.Plan) and isinstance(result.law, splitray.Law)
    strategies = {loss.strategy: loss for loss in result.losses}
    assert set(strategies) == {"planned split", "unsplit", "split at zero", "split at one half"}
    assert len({loss.tokens for loss in result.losses}) == 1
    assert result.summary is not None
    weights = {d.name: d.weight for d in result.summary.domains}
    for loss in result.losses:
        assert loss.loss == pytest.approx(sum(weights[d] * value for d, value in loss.by_domain.items()))
    files = [result.report, *result.figures.values(), *(f"{p}/config.json" for p in result.specialists.values())]
    assert result.router is not None and set(splitray.Router.load(result.router).domains) == set(result.specialists)
    if result.plan.split_fraction.value > 0:
        assert result.base == f"{result.run_dir}/base" and f"base, to use: {result.base}" in str(result)
        files.append(f"{result.base}/model.safetensors")
    assert len(result.specialists) == 3 and "comparison" in result.figures
    assert all(path is not None and Path(path).is_file() for path in files), files
    assert f"split after {result.plan.split_fraction.value:.0%}" in str(result) and str(result.report) in str(result)


def _written(folder: Path, values: dict[str, Any]) -> Path:
    (folder / "c.yaml").write_text(yaml.safe_dump(values))
    return folder / "c.yaml"
