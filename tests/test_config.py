"""The configuration: faults told by file and field, overrides, identity, and a manual that leaves nothing out."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from splitray.cli.run import main
from splitray.config import Config, changes, describe, dump, load
from splitray.corpus.settings import CorpusSettings
from splitray.errors import UserError
from splitray.pipeline.dry_run import foresee
from splitray.pipeline.programme import CorpusFacts, Programme
from splitray.pipeline.standing import Standing
from splitray.training.settings import TrainingSettings
from splitray.units import parse_count
from tests.support import CONFIGS as CONFIG_FOLDER
from tests.support import STUDIES
from tests.support.configs import PLAIN

CONFIGS = sorted(set(CONFIG_FOLDER.glob("*.yaml")) - set(STUDIES))


NUMBERS = ["budget", "training.learning_rate", "corpus.near_duplicate", "ladder.pretrain_tokens", "search.budget"]
# octal, hexadecimal, sexagesimal and a date are values in YAML 1.1
NO_NUMBERS = ["0200000", "0x10000", "12:00:00", "2024-01-01", ".inf", "-.inf", "inf", ".nan", "nan", "1e999", "on"]
NO_NUMBERS += ["0,001", "9" * 400, "9" * 5000]  # a decimal comma, and more digits than Python reads


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "t.yaml"
    path.write_text(yaml.safe_dump(PLAIN))
    return path


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.name)
def test_shipped_configs_load_and_come_back(path: Path, tmp_path: Path) -> None:
    config = load(path)
    again = tmp_path / "again.yaml"
    again.write_text(dump(config))
    assert load(again) == config


def test_there_are_shipped_configs() -> None:
    assert {"demo.yaml", "cluster-1b.yaml"} <= {p.name for p in CONFIGS}


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("bugdet=1", "unknown key bugdet; did you mean budget?"),
        ("training.larning_rate=1", "unknown key training.larning_rate; did you mean learning_rate?"),
        ("corpus.tfidf.itterations=1", "unknown key corpus.tfidf.itterations; did you mean iterations?"),
        ("ladder.shapes=[{hiden: 16, layers: 1}]", "unknown key ladder.shapes.0.hiden; did you mean hidden?"),
        ("ladder.shapes=[{hidden: 16, layers: 1, xyz: 2}]", "shapes.0.xyz; ladder.shapes.0 has hidden,"),
        ("budget=lots", "budget: 'lots' is not a number"),
        ("law.form=relase", "law.form: form 'relase' is not known: choose chinchilla, "),
        ("law.form=relase", "did you mean release?"),
        ("law.objective=hubr", "objective 'hubr' is not known: choose huber_log, squared; did you mean"),
        ("law.objective=huber_log:0", "law.objective: objective 'huber_log:0': give"),
        ("training.precision=pf16", "training.precision: choose auto, fp32, bf16; did you mean bf16?"),
        ("corpus.embedder=tf-idf", "corpus.embedder: embedder 'tf-idf' is not known: choose "),
        ("corpus.embedder=tf-idf", "did you mean tfidf?"),
        ("search.at=tagret", "search.at: choose off, ladder, target; did you mean target?"),
        ("training=3", "training: a section of keys is expected, not 3"),
        ("name=1e6", "name: text is needed; put the value in quotes"),
        ("model={hidden: 16, layers: 1, hidden: 32}", "the key 'hidden', first given in line 1, is given again"),
        ("training.zero_stage=4", "training.zero_stage: "),
        ("name=../x", "name: "),
        ("model.layers=0", "model.layers: "),
        ("model={hidden: 30, layers: 1, heads: 4}", "hidden 30 is not a multiple of heads 4"),
        ("resources.base_workers=3", "resources.base_workers = 3 does not divide training.global_batch_size = 4"),
        ("resources.specialist_workers=8", "resources.specialist_workers = 8 does not divide"),
        ("resources.base_workers_min=2", "base_workers_min = 2 exceeds base_workers = 1"),
        (
            "resources={base_workers: 4, base_workers_min: 3}",
            "resources.base_workers_min = 3 does not divide training.",
        ),
        ("budget=600", "budget = 600 tokens is less than two batches of 256 for each of 2 domains"),
        ("ladder.pretrain_tokens=[512]", "ladder.pretrain_tokens: 512 is less than four batches of 256 tokens"),
        ("ladder.specialize_tokens=[100]", "ladder.specialize_tokens: 100 is less than a batch of 256"),
        ("training.warmup_tokens=1000", "training.warmup_tokens = 1000 is more than a tenth of the ladder's smallest"),
        ("weights=tokns", "weights: choose uniform, tokens, or give a weight for each domain"),
        ("weights=tokns", "did you mean tokens?"),
        ("weights={a: 0.5, b: 0.4}", "weights: the weights of a, b sum up to 0.9, not to 1"),
        ("weights={a: 1.5, b: -0.5}", "the weight of b is -0.5: give a number above 0, or leave the domain out"),
        ("weights={a: 1, b: yes}", "the weight of b is 'yes': give a number above 0"),
        ("weights={}", "the weights of no domain sum up to 0, not to 1"),
        ("weights={a: 0.5, b: 0.5}", "weights by domain need given domains: name sources as domains, or set"),
        ("training.replay_share=1", "training.replay_share: "),
        ("training.replay_share=-0.1", "training.replay_share: "),
        ("ladder.domains=3", "ladder.domains = 3 exceeds corpus.domains = 2"),
        ("plan.min_pretrain_tokens=70000", "plan.min_pretrain_tokens = 70000 exceeds budget = 65536"),
        ("ladder.pretrain_tokens=[0]", "pretrain_tokens needs a value above 0"),
        ("ladder.specialize_tokens=[0, 512]", "specialize_tokens must be positive"),
        ("evaluate.baselines=[1.5]", "baselines are split fractions from 0 to 1"),
        ("budget", "give section.key=value"),
        ("=3", "give section.key=value"),
        ("budget.of=3", "budget is not a section"),
        ("budget=[1", "the value is not YAML"),
        ("budget=", "budget is empty: give a value"),
        ("training.precision=~", "training.precision is empty: give a value"),
        ("resources.capacity=-3", "resources.capacity: Input should be greater than 0"),
        ("corpus.tokenizer.vocabulary=true", "corpus.tokenizer.vocabulary: a number is needed, not true or false"),
        ("budget=1.5", "budget: Input should be a valid integer"),
        *((f"{field}={text}", f"{field}: ") for field in NUMBERS for text in NO_NUMBERS),
    ],
)
def test_faults_are_told_by_field(file: Path, override: str, told: str) -> None:
    import re

    pattern = re.escape(told).replace(r"\.\*", ".*")
    with pytest.raises(UserError, match=pattern) as caught:
        load(file, [override])
    assert str(file) in str(caught.value) or override in str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("- a\n", "a mapping of sections is expected, not list"),
        ("a: [1\n", "config .*bad.yaml"),
        ("", "a mapping of sections is expected, not NoneType"),
        ("name: x\n", "budget is missing; corpus is missing; model is missing; ladder is missing$"),
        ("name: x\nbudget: 1\nname: y\n", "the key 'name', first given in line 1, is given again in line 3, column 1"),
        ("training: {seed: 1}\nbudget: 1\n'training': {}\n", "'training', first given in line 1, .* in line 3"),
        ("corpus:\n  a: 1\n  b: 2\n  a: 3\n", "the key 'a', first given in line 2, is given again in line 4, column 3"),
        ("ladder: {shapes: [{hidden: 8, hidden: 8}]}\n", "the key 'hidden'"),
        ("a: &a {b: &b {c: 1, c: 2}}\nd: {<<: *b}\n", "the key 'c', first given in line 1, is given again in line 1"),
        ("a: " + "[" * 3000 + "]" * 3000, "its lists or mappings are nested too deep"),
        *((f"budget: {tag}", "'.*' is not a number in line 1") for tag in ("!!int 070", "!!int 0x10", "!!float abc")),
        *((f"budget: {tag}", "a value does not fit its tag") for tag in ("!!bool maybe", "!!timestamp x")),
        ("3: x\n", "keys must be text"),
        ("!!python/object/apply:os.getcwd []\n", "could not determine a constructor"),
    ],
)
def test_files_that_are_no_config_are_told_by_name(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=told) as caught:
        load(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_told_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.yaml: no such file"):
        load(tmp_path / "gone.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"name: \xff\n")
    with pytest.raises(UserError, match=r"latin\.yaml"):
        load(tmp_path / "latin.yaml")


def test_every_fault_is_told_at_once(file: Path) -> None:
    with pytest.raises(UserError) as caught:
        load(file, ["bugdet=1", "seed=-1", "training.threads=0"])
    assert all(name in str(caught.value) for name in ("bugdet", "seed", "training.threads"))


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("1e6", 10**6), ("1M", 10**6), ("1.001M", 1_001_000), ("98_304", 98304), ('"98,304"', 98304), ("9.8304e4", 98304)],
)
def test_numbers_are_read_as_the_planner_reads_them(file: Path, text: str, tokens: int) -> None:
    """In the file, in an override, in a list and from Python: `parse_count` is the one rule."""
    file.write_text(yaml.safe_dump({k: v for k, v in PLAIN.items() if k != "budget"}) + f"\nbudget: {text}\n")
    assert parse_count(text.strip('"')) == tokens
    assert load(file).budget == load(file, ["budget=70000", f"budget={text}"]).budget == tokens
    assert load(file, [f"ladder.pretrain_tokens=[{text}, 1.5M]"]).ladder.pretrain_tokens == [tokens, 1_500_000]
    assert load(file, [f"plan.min_pretrain_tokens={text}", "budget=3M"]).plan.min_pretrain_tokens == tokens
    assert Config(**PLAIN | {"budget": text.strip('"')}).budget == tokens
    assert isinstance(load(file, ["training.learning_rate=1e-3"]).training.learning_rate, float)


def test_merge_keys_may_be_chained(file: Path) -> None:
    """A mapping that merges another is merged itself, by one that stands above it: no key is given twice."""
    plain = {name: value for name, value in PLAIN.items() if name not in ("model", "ladder")}
    shapes = "[&a {hidden: 16, layers: 1, heads: 2}, &b {<<: *a, layers: 2}, {<<: [*b], hidden: 8}]"
    ladder = f"ladder: {{shapes: {shapes}, pretrain_tokens: [4096], specialize_tokens: [512]}}"
    file.write_text(f"{yaml.safe_dump(plain)}\n{ladder}\nmodel: {{<<: *b, hidden: 32}}\n")
    config = load(file)
    assert [(s.hidden, s.layers, s.heads) for s in (*config.ladder.shapes, config.model)] == [
        *((16, 1, 2), (16, 2, 2), (8, 2, 2)),
        (32, 2, 2),
    ]


def test_whole_numbers_that_nothing_counts_are_refused(file: Path) -> None:
    """Some 300 digits fit a double and overflow in the first multiplication."""
    for text in ("9" * 300, "1e30", "9.3e18", '"9' + "0" * 40 + '"'):
        with pytest.raises(UserError, match="budget: "):
            load(file, [f"budget={text}"])
    assert load(file, [f"training.gradient_clip={10**20}"]).training.gradient_clip == 1e20


def test_what_reads_as_something_else_comes_back_from_the_run_folder(file: Path, tmp_path: Path) -> None:
    """The resolved config is read again at the next start: a name such as 1e6 must not come back as a number."""
    for name in ("1e6", "007", "12:00:00"[:2], "no", "null", "2024-01-01", "1_000", "0x1F"):
        config = Config(**PLAIN | {"name": name, "store": "~"})
        (tmp_path / "again.yaml").write_text(dump(config))
        assert load(tmp_path / "again.yaml") == config
        assert yaml.safe_load(dump(config))["name"] == name, "as any YAML reader has it"


def test_a_section_with_defaults_may_be_left_out_or_empty(file: Path) -> None:
    ladder = PLAIN["ladder"] | {"pretrain_tokens": ["1M"], "specialize_tokens": ["50k"]}
    plain = PLAIN | {"budget": "2M", "ladder": ladder}
    del plain["training"]
    file.write_text(yaml.safe_dump(plain))
    left_out = load(file)
    assert left_out.training == TrainingSettings()
    file.write_text(yaml.safe_dump(plain) + "training:\nlaw:\n")
    assert load(file) == left_out


def test_descriptions_are_sentences() -> None:
    bad = [key for key, *_, text in describe() if not (text.endswith(".") and text[0].isupper())]
    assert bad == []


def test_overrides_are_yaml_and_reach_any_depth(file: Path) -> None:
    config = load(
        file, ["corpus.cluster.balanced=true", "seed=7", "evaluate.baselines=[1.0]", "run_dir=null", "name=a=b"[:6]]
    )
    assert config.corpus.cluster.balanced and config.seed == 7 and config.evaluate.baselines == [1.0]
    assert config.run_dir is None and config.name == "a"
    assert load(file, ["seed=1", "seed=2"]).seed == 2


def test_only_identity_fields_count_as_changes(file: Path) -> None:
    base = load(file).identity()
    for operational in (
        "training.threads=2",
        "training.zero_stage=3",
        "resources.base_workers=2",
        "store=/x",
        "run_dir=/y",
    ):
        assert not list(changes(base, load(file, [operational]).identity())), operational
    changed = load(file, ["seed=1", "training.learning_rate=0.5", "ladder.pretrain_tokens=[4096, 8192]"])
    assert list(changes(base, changed.identity())) == [
        "ladder.pretrain_tokens: [4096] -> [4096, 8192]",
        "seed: 0 -> 1",
        "training.learning_rate: 0.004 -> 0.5",
    ]


def test_a_config_cannot_be_changed_after_the_checks(file: Path) -> None:
    config = load(file)
    with pytest.raises(ValueError, match="frozen"):
        config.budget = 1  # type: ignore[misc]


def test_the_manual_covers_every_field() -> None:
    def leaves(values: dict[str, Any], prefix: str = "") -> set[str]:
        found: set[str] = set()
        for name, value in values.items():
            inner = isinstance(value, dict) and value  # an empty one is a field of its own
            found |= leaves(value, f"{prefix}{name}.") if inner else {f"{prefix}{name}"}
        return found

    told = list(describe())
    names = [key for key, *_ in told]
    assert len(names) == len(set(names))
    assert leaves(Config(**PLAIN).model_dump()) == set(names)
    assert all(len(text) > 10 for *_, text in told), [key for key, *_, text in told if len(text) <= 10]
    kinds = {key: kind for key, kind, *_ in told}
    assert kinds["resources.base_workers"] == kinds["training.threads"] == kinds["search.concurrent"] == "operational"
    assert {key for key, kind in kinds.items() if kind == "refit"} == {
        "law.form", "law.objective", "law.bootstrap", "law.repetition", "plan.min_pretrain_tokens", "plan.epochs"
    }  # fmt: skip
    assert kinds["training.learning_rate"] == kinds["search.tolerance"] == kinds["seed"] == "identity"


def test_sections_refuse_what_they_do_not_know() -> None:
    """Every section, to the last: an unknown key is never silently dropped."""
    seen: list[type[BaseModel]] = [Config]
    for section in seen:
        seen += [
            f.annotation
            for f in section.model_fields.values()
            if isinstance(f.annotation, type) and issubclass(f.annotation, BaseModel) and f.annotation not in seen
        ]
    assert len(seen) > 8
    # corpus also takes the sections of registered embedders, and refuses any other key itself (below)
    assert all(section.model_config.get("extra") == "forbid" for section in seen if section is not CorpusSettings)
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        CorpusSettings(sources=["x"], domains=2, no_such_section={})


def test_settings_prints_the_manual_without_a_config(capsys: pytest.CaptureFixture[str]) -> None:
    """What it says of the defaults is what a config that leaves them out comes to."""
    with pytest.raises(SystemExit) as ended:
        main(["--settings"])
    assert ended.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    heads, meanings = lines[::2], lines[1::2]
    assert len(heads) == len(meanings) == len(list(describe())) and all(m.startswith("    ") for m in meanings)
    assert [h for h in heads if h == "corpus.domains  (required)"] and "training.threads = 1  [operational]" in heads
    assert "law.bootstrap = 200  [refit]" in heads
    parts = [head.removesuffix("  [operational]").removesuffix("  [refit]").partition(" = ") for head in heads]
    told = {key: yaml.safe_load(value) for key, _, value in parts if value}
    values = Config(**PLAIN).model_dump(mode="json")
    for key, default in told.items():
        given, found = PLAIN, values
        for name in key.split("."):
            given, found = given.get(name, {}) if isinstance(given, dict) else {}, found[name]
        assert given or found == default, key


NAMED = {"corpus": {"sources": {"law": "a", "code": ["b", "c"]}}}
BY_COLUMN = {"corpus": {"sources": ["a"], "domains": 2, "domain_column": "kind"}}


@pytest.mark.parametrize(
    ("given", "weights", "told"),
    [
        (NAMED, {"law": 0.5, "cod": 0.5}, r"there is no domain 'cod'; did you mean code\?; the domains are code, law"),
        (NAMED, {"law": 1}, "weights: code has no weight"),
        (BY_COLUMN, {"law": 0.2, "code": 0.3, "sea": 0.5}, "weights names 3 domains, and corpus.domains is 2"),
        (NAMED, {"law": 0.995, "code": 0.005}, r"leaves domain code, of weight 0.005, 327 tokens: less than two"),
    ],
)
def test_weights_of_other_domains_are_refused(given: dict[str, Any], weights: dict[str, float], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Config(**PLAIN | given | {"weights": weights})


@pytest.mark.parametrize("given", [NAMED, BY_COLUMN])
def test_weights_by_domain_are_shares_and_come_back(given: dict[str, Any], tmp_path: Path) -> None:
    """Thirds of three digits are rounded: the programme's shares sum up to 1, and the file keeps what was given."""
    config = Config(**PLAIN | given | {"weights": {"law": 0.333, "code": "0.6666"}})
    assert config.corpus.domains == 2
    again = tmp_path / "again.yaml"
    again.write_text(dump(config))
    assert load(again) == config and load(again).identity() == config.identity()
    programme = Programme.unbuilt(config)
    assert list(programme.weights) == ["code", "law"]
    assert programme.weights == pytest.approx({"law": 0.333 / 0.9996, "code": 0.6666 / 0.9996}, rel=1e-12)
    assert sum(programme.weights.values()) == pytest.approx(1, abs=1e-15)
    split = programme.final().split(0.25)
    assert split.budget == programme.budget
    assert split.specialize_tokens["code"] == pytest.approx(2 * split.specialize_tokens["law"], rel=0.01)


def test_a_value_of_a_column_names_its_domain() -> None:
    config = Config(**PLAIN | BY_COLUMN | {"weights": {"PubMed Central": 0.5, "FreeLaw": 0.5}})
    assert config.weights == {"PubMed_Central": 0.5, "FreeLaw": 0.5}


@pytest.mark.parametrize(
    ("tokens", "told"),
    [
        ({"code": 9000, "sea": 9000}, "there is no domain 'law'; the domains are code, sea"),
        ({"code": 9000, "law": 64}, "domain law has 64 training tokens, and training.sequence_length is 64"),
    ],
)
def test_a_corpus_that_cannot_be_trained_on_is_refused_before_training(tokens: dict[str, int], told: str) -> None:
    """The names of a column, and how much text is behind them, are known once it was read."""
    config = Config(**PLAIN | BY_COLUMN | {"weights": {"law": 0.4, "code": 0.6}})
    with pytest.raises(UserError, match=told):
        Programme(config, CorpusFacts("c", 300, 0, tuple(tokens), tokens), "fp32").check_domains()
    light = {"code": 90_000, "law": 450}
    with pytest.raises(UserError, match=r"leaves domain law, of weight 0.00498.* less than two batches"):
        by_size = config.model_copy(update={"weights": "tokens"})
        Programme(by_size, CorpusFacts("c", 300, 0, tuple(light), light), "fp32").check_domains()
    good = {"code": 9000, "law": 9000}
    Programme(config, CorpusFacts("c", 300, 0, tuple(good), good), "fp32").check_domains()


def test_a_dry_run_knows_given_domains_and_replay(tmp_path: Path) -> None:
    changes = {"weights": {"law": 0.25, "code": 0.75}, "store": str(tmp_path), "run_dir": str(tmp_path / "run")}
    training = PLAIN["training"] | {"replay_share": 0.1}
    config = Config(**PLAIN | NAMED | changes | {"training": training})
    text = str(foresee(config, str(tmp_path), Standing()))
    assert "0.1 of D' is mixture text" in text and "tokens over 2 domains" in text
