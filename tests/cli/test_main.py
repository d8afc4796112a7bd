"""The command: subcommands, one prefix of errors, exit codes, readers that go, the scripts for `ray job submit`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from splitray import __version__
from splitray.cli.main import COMMANDS, main
from splitray.config import DEMO, describe, load, manual
from tests.support import CONFIGS, ROOT
from tests.support.configs import PLAIN


def call(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_every_command_is_listed_and_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    listed = capsys.readouterr().out
    assert all(f"  {name} " in listed for name in COMMANDS)
    for name in COMMANDS:
        with pytest.raises(SystemExit) as ended:
            main([name, "--help"])
        shown = " ".join(capsys.readouterr().out.split())
        assert ended.value.code == 0 and shown.startswith(f"usage: splitray {name}") and "Exit codes: 0 done" in shown
    assert main(["--version"]) == 0 and capsys.readouterr().out == f"splitray {__version__}\n"
    assert main([]) == 2 and "usage: splitray COMMAND" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["rnu"],
            "command 'rnu' is not known: choose init, run, dry-run, plan, prove, .*; did you mean run?",
        ),
        (["plan"], "the following arguments are required: --domains; see splitray plan --help"),
        (["run", "--utnil", "law"], "unrecognized arguments: --utnil law; see splitray run --help"),
        (["run", "--until", "lader"], "stage 'lader' is not known: choose corpus, ladder, .*; did you mean ladder?"),
        (["dry-run", "--config", "none.yaml"], "config none.yaml: no such file"),
        (["run", "--set", "budgt=3"], "unknown key budgt; did you mean budget?"),
        (["settings", "trainng"], "the configuration has no 'trainng'; did you mean training?"),
        (["prune", "/nowhere/store"], "/nowhere/store is not a store"),
        (["plan", "none.csv", "--domains", "2", "--params", "0100", "--budget", "1B"], "'0100' .* begins with 0"),
        (["plan", "none.csv", "--domains", "2", "--params", "1M", "--budget", "1B", "--seed", "1.5"], "whole number"),
    ],
)
def test_wrong_input_is_one_line_with_one_prefix(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import re

    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and captured.err.startswith("splitray: ")
    assert re.search(told, captured.err), captured.err


def test_settings_of_a_section(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["settings"]) == 0 and capsys.readouterr().out == manual() + "\n"
    assert main(["settings", "corpus.tokenizer"]) == 0
    heads = [line.split(" = ")[0] for line in capsys.readouterr().out.splitlines()[::2]]
    assert heads == [key for key, *_ in describe() if key.startswith("corpus.tokenizer.")]
    assert main(["settings", "budget"]) == 0 and capsys.readouterr().out.startswith("budget  (required)")


def test_dry_run_is_the_same_by_every_door(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.yaml").write_text(yaml.safe_dump(PLAIN))
    chosen = ["--config", str(tmp_path / "t.yaml"), "--run-dir", str(tmp_path / "run")]
    assert main(["dry-run", *chosen, "--set", "ladder.max_share=1e-3"]) == 2
    refused = capsys.readouterr()
    assert "The tree" in refused.out and "ladder.max_share" in refused.err
    shown = []
    for arguments in (["dry-run", *chosen], ["run", "--dry-run", *chosen]):
        assert main(arguments) == 0
        shown.append(capsys.readouterr().out)
    assert "base and specialists at s = 0.25" in shown[0] and shown[0] == shown[1]
    import splitray

    config = splitray.load_config(tmp_path / "t.yaml")
    assert shown[0] == str(splitray.dry_run(config, run_dir=tmp_path / "run"))


def test_the_demo_is_one_file_of_the_package() -> None:
    assert CONFIGS.joinpath("demo.yaml").samefile(DEMO) and DEMO.is_relative_to(ROOT / "splitray")
    assert load(DEMO).name == "demo"


def test_without_a_configuration_the_demo_is_meant_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dry-run", "--run-dir", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "No --config is given: this is the demo" in shown and "demo: dry run" in shown
    done = call(str(ROOT / "jobs/split.py"), "--dry-run", "--run-dir", str(tmp_path))
    assert done.returncode == 0 and "No --config is given: this is the demo" in done.stdout, done


@pytest.mark.parametrize("command", [["-m", "splitray"], [str(ROOT / "jobs/split.py")]])
def test_the_module_and_the_script(command: list[str]) -> None:
    settings = ["--settings"] if "jobs" in command[-1] else ["settings"]
    done = call(*command, *settings)
    assert (done.returncode, done.stdout, done.stderr) == (0, manual() + "\n", "")
    wrong = call(*command, *(["run"] if settings == ["settings"] else []), "--set", "law.form=relase")
    assert wrong.returncode == 2 and wrong.stdout == "" and wrong.stderr.startswith("splitray: config "), wrong
    assert wrong.stderr.count("\n") == 1 and "did you mean release?" in wrong.stderr


@pytest.mark.parametrize(
    "arguments", ["-m splitray settings", "-m splitray --help", "-m splitray plan --help", "jobs/split.py --settings"]
)
def test_a_reader_that_goes_ends_in_no_traceback(arguments: str) -> None:
    """`| head` at every place where more is printed than a pipe holds, or after the reader has gone."""
    gone = "import os, sys; r, w = os.pipe(); os.close(r); os.dup2(w, 1); "
    gone += "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    command = [str(ROOT / word) if word.startswith("jobs/") else word for word in arguments.split()]
    done = call("-c", gone, *command)
    assert (done.returncode, done.stderr) == (0, ""), done


def test_a_full_disk_behind_the_output_is_told() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this machine has no /dev/full")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "splitray", "settings"],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (
        done.returncode == 1 and done.stderr == "splitray: the output could not be written: No space left on device\n"
    )


def test_a_terminal_without_the_characters_gets_others() -> None:
    done = call("-m", "splitray", "dry-run", PYTHONIOENCODING="ascii")
    assert done.returncode == 0 and "The tree" in done.stdout and "Traceback" not in done.stderr, done
