"""What is not trusted: pickles, code that comes with models, YAML tags, names that escape, and who may see keys."""

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from splitray import yaml_text
from splitray.config import Config, dump, load
from splitray.corpus.embedders import SentenceEmbedder
from splitray.corpus.settings import SentenceSettings
from splitray.corpus.tokenizer import load_tokenizer
from splitray.errors import SplitrayError, UserError
from splitray.executor.access import tighten_token
from splitray.pipeline.run_folder import RunFolder
from splitray.results.stages import CorpusResult, LawResult
from splitray.storage.folder import Folder
from splitray.storage.redact import holds_secret
from splitray.training.model import build, root_hash, size
from splitray.training.recipe import recipe
from splitray.training.settings import ModelShape
from tests.support import ROOT, tiny
from tests.support.configs import PLAIN

LLAMA = {"model_type": "llama", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 64}


class Trap:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.fixture
def sprung(tmp_path: Path) -> Path:
    """The file that exists once somebody's code has been run."""
    return tmp_path / "sprung"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA))
    return folder


def code(folder: Path, sprung: Path) -> None:
    """A module that a careless loader would import."""
    for name in ("modeling_own.py", "configuration_own.py", "tokenization_own.py"):
        (folder / name).write_text(f"from pathlib import Path\nPath({str(sprung)!r}).touch()\nclass Own: pass\n")


def pickled(folder: Path, sprung: Path) -> None:
    torch.save({"weight": Trap(sprung)}, folder / "pytorch_model.bin")


def pickled_under_another_name(folder: Path, sprung: Path) -> None:
    torch.save({"weight": Trap(sprung)}, folder / "model.safetensors")


def code_of_its_own(folder: Path, sprung: Path) -> None:
    named = {"AutoConfig": "configuration_own.Own", "AutoModelForCausalLM": "modeling_own.Own"}
    (folder / "config.json").write_text(json.dumps({"model_type": "own", "auto_map": named}))
    code(folder, sprung)
    weights(folder)


def weights(folder: Path) -> None:
    from safetensors.torch import save_file

    save_file({"w": torch.zeros(2)}, folder / "model.safetensors")


REFUSED: list[tuple[Callable[[ModelShape], Any], Callable[[Path, Path], None], str]] = [
    (use, put, told)
    for put, told in (
        (pickled, r"no \.safetensors files; pickled weights \(\.bin, \.pt\) are not loaded"),
        (code_of_its_own, r"needs code of its own .*own\.Own.*trust_remote_code stays off"),
    )
    for use in (lambda shape: size(shape, 64, tiny.training()), root_hash)
]
REFUSED += [
    (
        lambda s: size(s, 64, tiny.training()),
        pickled_under_another_name,
        r"model\.safetensors is no readable safetensors",
    )
]


@pytest.mark.parametrize(("use", "put", "told"), REFUSED)
def test_models_to_continue_from_are_safetensors_without_code(
    model: Path, sprung: Path, use: Callable[[ModelShape], Any], put: Callable[[Path, Path], None], told: str
) -> None:
    """Refused before anything is trained: a run asks for size and hash of its models first."""
    put(model, sprung)
    with pytest.raises(UserError, match=told) as caught:
        use(ModelShape(path=str(model)))
    assert str(model) in str(caught.value) and not sprung.exists()


def test_pickles_beside_safetensors_are_left_alone(model: Path, sprung: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(1)
    LlamaForCausalLM(LlamaConfig(**LLAMA, intermediate_size=16)).save_pretrained(model)
    pickled(model, sprung)
    shape, named = ModelShape(path=str(model)), {"content_hash": "", "vocab": 64, "end_token": 0}
    made = build(recipe(shape, tiny.training(), named, {}, 0))
    assert sum(p.numel() for p in made.parameters()) == size(shape, 64, tiny.training()).total
    assert not sprung.exists()


def test_tokenizers_bring_no_code(tmp_path: Path, sprung: Path) -> None:
    named = {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["tokenization_own.Own", None]}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(named))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "own"}))
    code(tmp_path, sprung)
    with pytest.raises(UserError, match=r"corpus\.tokenizer\.source: .* is no tokenizer that can be loaded"):
        load_tokenizer(str(tmp_path))
    assert not sprung.exists()


def own_module(folder: Path, sprung: Path) -> None:
    (folder / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "", "type": "modeling_own.Own"}]))
    code(folder, sprung)


def pickled_module(folder: Path, sprung: Path) -> None:
    kind = "sentence_transformers.models.Dense"
    (folder / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "0_Dense", "type": kind}]))
    (folder / "0_Dense").mkdir()
    pickled(folder / "0_Dense", sprung)


@pytest.mark.parametrize("put", [own_module, pickled_module])
def test_sentence_models_bring_neither_code_nor_pickles(
    model: Path, sprung: Path, put: Callable[[Path, Path], None]
) -> None:
    pytest.importorskip("sentence_transformers", reason="needs the extra 'sentence'")
    put(model, sprung)
    with pytest.raises(UserError, match=r"corpus\.sentence\.model: .*(without running code|is pickled)"):
        SentenceEmbedder.check(SentenceSettings(model=str(model)))
    assert not sprung.exists()


def called(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """(name as written, call) of every call in a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def test_our_code_asks_for_nothing_else() -> None:
    """Every call in the package that could unpickle, run a model's code or build objects from YAML."""
    seen = 0
    for path in [*ROOT.glob("splitray/**/*.py"), *ROOT.glob("jobs/*.py")]:
        for name, call in called(path):
            given = {k.arg: ast.unparse(k.value) for k in call.keywords}
            where = f"{path.relative_to(ROOT)}:{call.lineno} {name}"
            assert name not in ("pickle.load", "pickle.loads", "torch.load", "joblib.load", "eval"), where
            if name == "yaml.load":  # the one reader of YAML, which refuses keys that are given twice
                assert where.startswith("splitray/yaml_text.py") and given == {"Loader": "_Loader"}, where
            if name in ("np.load", "numpy.load"):
                seen += 1
                assert given.get("allow_pickle") == "False", where
            if name.endswith(".from_pretrained") or name == "SentenceTransformer":
                seen += 1
                assert given.get("trust_remote_code") == "False", where
    assert seen > 8, "the names have changed, and this looks at nothing"
    assert issubclass(yaml_text._Loader, yaml.SafeLoader)


@pytest.mark.parametrize("tag", ["object/apply:pathlib.Path.touch", "object/new:pathlib.Path", "name:os.getcwd"])
def test_yaml_builds_no_objects(tmp_path: Path, sprung: Path, tag: str) -> None:
    evil = f"!!python/{tag} [{sprung}]"
    (tmp_path / "evil.yaml").write_text(f"name: {evil}\n")
    with pytest.raises(UserError, match=r"evil\.yaml: could not determine a constructor"):
        load(tmp_path / "evil.yaml")
    (tmp_path / "good.yaml").write_text(yaml.safe_dump(PLAIN))
    with pytest.raises(UserError, match=r"--set name=.*: the value is not YAML"):
        load(tmp_path / "good.yaml", [f"name={evil}"])
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yaml").write_text(f"name: {evil}\n")
    with pytest.raises(UserError, match=r"run/config\.yaml"):
        RunFolder(Folder(tmp_path / "run"), Config(**PLAIN))
    assert not sprung.exists()


# names


@pytest.mark.parametrize(
    "name", ["../x", "/etc/x", "x/../../y", "a/b", "", ".", "..", ".hidden", "a\0b", "a\nb", "x\n", "a b"]
)
def test_the_name_of_a_run_is_a_plain_name(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        Config(**PLAIN | {"name": name})


@pytest.mark.parametrize("where", ["runs/a\0b", "", "runs/\x1b[2J", "s3://bucket/a\nb"])
def test_folders_have_no_control_characters(where: str) -> None:
    with pytest.raises(UserError, match="names no folder"):
        Folder(where)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "a\0b", "a\nb", "..", "a//b"])
def test_nothing_is_written_outside_of_a_run_folder(tmp_path: Path, name: str) -> None:
    run = RunFolder(Folder(tmp_path / "run"), Config(**PLAIN))
    before = sorted(tmp_path.rglob("*"))

    def fit() -> LawResult:
        run.keep(name, lambda path: path.write_text("x"))
        return LawResult("release")

    with pytest.raises(UserError, match="is not a name inside"):
        run.carry_out("law", fit, lambda: None)
    assert [p for p in sorted(tmp_path.rglob("*")) if "events" not in str(p)] == before


# secrets

KEY, SECRET = "AKIAEXAMPLEEXAMPLE", "wJalr/XUtnFEMI+EXAMPLEKEY"
URI = f"s3://{KEY}:{SECRET}@bucket/x?endpoint_override=127.0.0.1:9&scheme=http&region=secret-region"


def hidden(text: str) -> bool:
    return not any(part in text for part in (KEY, SECRET, SECRET[:8], SECRET[-8:], "secret-region"))


def secretive(**changes: Any) -> Config:
    corpus = {"sources": [f"{URI}", "plain/*.txt"], "domains": 2}
    return Config(**PLAIN | {"corpus": corpus, "run_dir": URI, "store": URI} | changes)


def test_keys_in_uris_stay_out_of_the_run_folder(tmp_path: Path, logged: list[str]) -> None:
    """The folder is given keys in its URI by the config; everything that is written of the config lacks them."""
    config = secretive()
    assert config.store == URI and config.corpus.sources[0] == URI, "they are there to be used"
    run = RunFolder(Folder(tmp_path / "run"), config)

    def build() -> CorpusResult:
        run.event("log", text=f"store {Folder(tmp_path).uri}")
        return CorpusResult("corpus-x", ())

    run.carry_out("corpus", build, lambda: None)
    texts = [p.read_text() for p in (tmp_path / "run").rglob("*") if p.is_file()]
    texts += [dump(config), json.dumps(config.identity()), json.dumps(config.corpus.identity()), *logged]
    assert len(texts) >= 7 and all(hidden(text) for text in texts)
    assert load(tmp_path / "run/config.yaml").corpus.sources == ["s3://bucket/x", "plain/*.txt"]
    RunFolder(Folder(tmp_path / "run"), secretive())  # the same run, whoever holds the keys
    moved = {"corpus": {"sources": [URI.replace("bucket", "other")], "domains": 2}}
    with pytest.raises(UserError, match=r"corpus\.sources: \['s3://bucket/x', .*'s3://other/x'") as caught:
        RunFolder(Folder(tmp_path / "run"), secretive(**moved))
    assert hidden(str(caught.value))


FAULTS: list[tuple[str, list[str]]] = [
    (f"name: x\nstore: [{URI}\n", []),
    (f"name: x\nstore: {{at: '{URI}'}}\n", []),
    (yaml.safe_dump(PLAIN | {"store": [URI]}), []),
    (yaml.safe_dump(PLAIN | {"budget": URI}), []),
    (yaml.safe_dump(PLAIN), [f"store={{{URI}"]),
    (yaml.safe_dump(PLAIN), [f"store {URI}"]),
    (yaml.safe_dump(PLAIN), [f"corpus.sources={URI}"]),
]


@pytest.mark.parametrize(("text", "overrides"), FAULTS)
def test_keys_stay_out_of_messages_about_the_config(tmp_path: Path, text: str, overrides: list[str]) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(UserError) as caught:
        load(tmp_path / "c.yaml", overrides)
    error: BaseException | None = caught.value
    while error is not None:  # a traceback would show the causes, too
        assert hidden(str(error)), error
        error = None if error.__suppress_context__ else error.__cause__ or error.__context__


@pytest.mark.parametrize(
    "where",
    [
        URI.replace("region=", "regoin="),
        URI.replace("s3://", "s4://"),
        URI.replace("@bucket", "@"),
        URI + "&scheme=ftp",
    ],
)
def test_keys_stay_out_of_messages_about_folders(where: str) -> None:
    with pytest.raises(SplitrayError) as caught:
        Folder(where).write("x", b"")
    assert hidden(str(caught.value)) and hidden(repr(caught.value.__cause__))


def test_keys_in_the_environment_reach_no_file_and_no_message(tmp_path: Path) -> None:
    """The job as a user runs it, with keys in the environment and in a URI, up to its first errors."""
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(PLAIN | {"corpus": {"sources": [URI], "domains": 2}}))
    environment = os.environ | {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_MAX_ATTEMPTS": "1"}
    command = [sys.executable, str(ROOT / "jobs/split.py"), "--config", "c.yaml"]
    out = ""
    wrong = yaml.safe_dump(PLAIN | {"run_dir": URI.replace("region=", "regoin=")})
    (tmp_path / "wrong.yaml").write_text(wrong)
    for more in (["--dry-run", "--run-dir", "here/run"], ["--config", "wrong.yaml"]):
        done = subprocess.run([*command, *more], cwd=tmp_path, env=environment, capture_output=True, text=True)
        out += done.stdout + done.stderr
    assert "cannot open the folder s3://bucket/x" in out and hidden(out), out
    written = [p for p in tmp_path.rglob("*") if p.is_file() and p.suffix != ".yaml"]
    assert all(hidden(p.read_text()) for p in written)


HUB = "hf_" + 5 * "wJalrXUt"  # the shape of a token of Hugging Face's
HOOK = f"https://hooks.slack.com/services/T000/B000/{SECRET}"
ARGUMENTS = [
    ("split", ["--config", "c.yaml", "--run-dir", URI]),
    ("split", ["--config", "c.yaml", "--set", f"corpus.sources=[{URI}, x.txt]"]),
    ("prune", [URI]),
    ("plan", [URI, "--params", "1B", "--budget", "1T", "--domains", "2"]),
    ("plan", ["runs.csv", "--params", "1B", "--budget", "1T", "--domains", "2", f"--json={URI}"]),
    ("split", ["--config", "c.yaml", "--no-such-option", URI]),
    ("split", ["--config", "c.yaml", "--set", f"name={HUB}"]),
    ("split", ["--config", "c.yaml", "--set", f"alerts.webhook={HOOK}"]),
]


@pytest.mark.parametrize(("job", "arguments"), ARGUMENTS)
def test_secrets_on_a_command_line_are_refused(tmp_path: Path, job: str, arguments: list[str]) -> None:
    """They stand in `ps` for all users of the machine: the message says where they belong, and does not repeat them."""
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(PLAIN))
    command = [sys.executable, str(ROOT / f"jobs/{job}.py"), *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and hidden(done.stderr) and HUB not in done.stderr, done.stderr
    assert "holds a secret" in done.stderr and "Put it into the environment" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["c.yaml"]


WITH_SECRETS = [URI, f"store={URI}", f"abfs://box@account/x?account_key={SECRET}", f"x,gs://b/y?access_token={SECRET}"]
WITH_SECRETS += [HUB, f"name={HUB}", "ghp_" + 36 * "a"]
WITH_SECRETS += [f"alerts.webhook={HOOK}", f"alerts={{webhook: '{HOOK}'}}", f"alerts.webhook: {HOOK}", f"alerts={HOOK}"]
WITH_SECRETS += [f"alerts.webhook={HOOK.removeprefix('https://')}"]
WITHOUT = [
    "hf_transfer",
    "alerts.webhook=$HOOK",
    "alerts={webhook: $HOOK, occasions: [stall]}",
    "alerts/runs.csv",
    "models/hf_export_of_a_model",
    "s3://bucket/x?region=y",
    "gs://anonymous@bucket/x",
    f"s3://{KEY}@bucket/x",
    "runs/a:b@c",
    "x=12:30@y",
    "k",
]


@pytest.mark.parametrize("text", WITH_SECRETS + WITHOUT)
def test_what_counts_as_a_secret_in_an_address(text: str) -> None:
    assert holds_secret(text) == (text in WITH_SECRETS)


# the cluster


def test_the_token_of_ray_is_for_its_owner_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Ray writes it, every user of the machine reads it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    tighten_token()  # there is none yet
    default, elsewhere = tmp_path / ".ray/auth_token", tmp_path / "token"
    default.parent.mkdir()
    for path in (default, elsewhere):
        path.write_text("secret")
        path.chmod(0o644)
    tighten_token()
    assert (default.stat().st_mode & 0o777, elsewhere.stat().st_mode & 0o777) == (0o600, 0o644)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "~/token")
    tighten_token()
    assert elsewhere.stat().st_mode & 0o777 == 0o600


PORTS = """
import os
from splitray.executor.access import listen_on_loopback
os.environ["RAY_AUTH_MODE"] = "token"
listen_on_loopback()
import psutil, ray
ray.init(address="local", num_cpus=1, dashboard_host="127.0.0.1", log_to_driver=False)
assert ray.get(ray.remote(lambda: 3).remote()) == 3
session, listening = ray._private.worker._global_node.get_session_dir_path(), set()
for process in psutil.process_iter():
    try:
        ours = process.pid == psutil.Process().pid or any(session in word for word in process.cmdline())
        sockets = process.net_connections(kind="inet") if ours else []
    except psutil.Error:
        continue
    listening |= {(s.laddr.ip, process.name()) for s in sockets if s.status == "LISTEN"}
assert len({name for _, name in listening}) > 2, listening
print(sorted((ip, name) for ip, name in listening if ip not in ("127.0.0.1", "::1", "::ffff:127.0.0.1")))
"""


@pytest.mark.ray
def test_a_ray_of_our_own_listens_on_loopback_only(tmp_path: Path) -> None:
    """Its gRPC ports, agents and metrics: with Ray's own defaults they listen on every interface."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PORTS]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip().splitlines()[-1] == "[]"


def blocks(path: Path) -> Iterator[str]:
    """Shell blocks of a page, with their continued lines joined; of other files, the whole."""
    text = path.read_text().replace("\\\n", " ")
    yield from re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S) if path.suffix == ".md" else [text]


DOCUMENTED = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "Makefile", ROOT / "cluster.yaml"]


def test_every_documented_start_of_a_cluster_asks_for_a_token() -> None:
    starts = 0
    for path in DOCUMENTED:
        for block in blocks(path):
            for found in re.finditer(r"\bray (start|job submit)\b", block):
                line = block[block.rfind("\n", 0, found.start()) + 1 : found.start()]
                if "#" in line:
                    continue
                starts += 1
                before = block[: found.start()]
                assert "export RAY_AUTH_MODE=token" in before or "RAY_AUTH_MODE=token" in line, (path.name, found[0])
        text = path.read_text()
        assert "RAY_AUTH_MODE=disabled" not in text and "0.0.0.0" not in text, path.name
    assert starts >= 4, "README and cluster.yaml start clusters"


def test_our_own_start_asks_for_a_token_on_loopback() -> None:
    """`make demo` starts Ray through `connect`: the dashboard on loopback; the token is asked for before the import."""
    starts = [
        ast.unparse(c) for n, c in called(ROOT / "splitray/executor/connect.py") if n == "ray.init" and c.keywords
    ]
    own = [start for start in starts if "address='local'" in start]
    assert own and all("dashboard_host='127.0.0.1'" in start for start in own), starts
    for module in ("pipeline/start.py", "api.py"):
        source = (ROOT / "splitray" / module).read_text()
        assert source.index("with token_asked_for()") < source.index("from splitray.executor.connect import connected")
    files = [p for folder in ("benchmarks", "tests") for p in (ROOT / folder).rglob("*.py")]
    servers = [c for path in files for name, c in called(path) if "MotoServer" in name]
    assert servers and all(ast.unparse(call.args[0]) == "'127.0.0.1'" for call in servers if call.args), servers


@pytest.mark.ray
def test_a_cluster_answers_nobody_without_the_token(ray_cluster: None) -> None:
    """Ray's own ports listen on every interface: the token is what shuts them."""
    import grpc
    import ray

    with grpc.insecure_channel(ray.get_runtime_context().gcs_address) as channel:
        ask = channel.unary_unary("/ray.rpc.NodeInfoGcsService/GetAllNodeInfo")
        with pytest.raises(grpc.RpcError) as caught:
            ask(b"", timeout=20)
    assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
