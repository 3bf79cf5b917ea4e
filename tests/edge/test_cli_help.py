"""The command line before any command runs: help, completion, wrong use, and nothing heavy on the way there."""

from __future__ import annotations

import subprocess
import sys

import pytest

from crdtledger.edge.cli import app
from tests.edge.processes import run, spawn_cli

HEAVY = ("numpy", "pycrdt", "zmq", "apsw", "nacl", "msgspec", "asyncio")
COMMANDS = [
    *("demo", "init", "up", "node", "import", "record", "define", "board", "positions", "collateral"),
    *("instruments", "frontier", "orders", "matches", "book"),
    *(
        "members",
        "status",
        "breaks",
        "wait",
        "diff",
        "explain",
        "recon",
        "report",
        "checkpoint",
        "prove",
        "verify-proof",
        "drill",
        "doctor",
        "backup",
    ),
    *("restore", "completion", "simulate", "maelstrom"),
]
PARTS = [
    *("drill partition", "drill kill", "drill heal", "drill fork"),
    *("checkpoint list", "checkpoint show", "checkpoint verify", "checkpoint copy", "checkpoint policy"),
    "prove account",
]


def test_every_command_is_known_and_no_other() -> None:
    assert sorted(name for name in app if not name.startswith("-")) == sorted(COMMANDS)


@pytest.mark.parametrize("command", [*COMMANDS, *PARTS])
def test_every_command_tells_what_it_does_and_explains_each_parameter(command: str) -> None:
    ran = run(*command.split(), "--help")
    assert ran.code == 0
    assert f"crdtledger {command}" in ran.out
    for line in ran.out.splitlines():
        words = line.strip("│ ").split()
        assert not (words and words[0].isupper() and len(words) == 1 and "Usage" not in line), f"unexplained: {line}"


def test_help_comes_at_once_because_nothing_heavy_is_imported() -> None:
    script = (
        "import sys; from crdtledger.edge.cli import main; code = main(['--help']);"
        f"print('heavy:', *[m for m in {HEAVY!r} if m in sys.modules]); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "heavy:"


def test_the_console_script_the_module_and_its_version() -> None:
    ran = spawn_cli("--version")
    assert ran.code == 0
    assert ran.out.strip()[0].isdigit()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["positons", "x"], "positons"),
        (["positions"], "TARGET"),
        (["positions", "x", "--format", "xml"], "xml"),
        (["positions", "x", "--colour"], "--colour"),
        (["wait", "a", "b", "--timeout", "soon"], "soon"),
        (["wait", "a"], "two or more"),
        (["checkpoint", "verify", "x"], "--genesis"),
        (["checkpoint", "verify", "--genesis", "g"], "one source or more"),
        (["checkpoint", "list", "x", "--last", "-1"], "0 or more"),
        (["verify-proof", "x"], "--genesis"),
        (["prove", "account", "A", "--cluster", "/nowhere"], "--target NODE"),
        (["board", "x", "--owner", "kim"], "name the BREAK"),
        (["board", "x", "0" * 16, "--status", "done"], "done"),
        (["define", "x"], "FILE.toml or --preset"),
        (["report", "x", "--format", "parquet"], "name a file"),
        (["recon", "x", "s", "--statement-format", "fix"], "--venue"),
        (["recon", "x", "s", "--tolerance", "fees"], "field=0.01"),
        (["recon", "x", "s", "--symbol", "BTC"], "SYMBOL=INSTRUMENT"),
        (["recon", "x", "s", "--statement-format", "fix", "--venue", "v", "--custodian", "c"], "positions"),
        (["import", "x", "f", "--format", "binance-streams", "--instrument", "I"], "binance-stream"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_two(arguments: list[str], complaint: str) -> None:
    ran = run(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.count("\n") == 1
    assert ran.err.startswith("crdtledger: ")
    assert complaint in ran.err


def test_without_arguments_the_commands_are_listed() -> None:
    ran = run()
    assert ran.code == 0
    assert all(command in ran.out for command in COMMANDS)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_know_every_command_and_the_formats(shell: str) -> None:
    ran = run("completion", shell)
    assert ran.code == 0
    assert all(command in ran.out for command in COMMANDS)
    assert "binance-aggtrades" in ran.out


def test_bash_takes_the_completion_script_and_completes_a_command() -> None:
    script = run("completion", "bash").out
    probe = """
COMP_WORDS=(crdtledger pos); COMP_CWORD=1; COMP_LINE="crdtledger pos"; COMP_POINT=14
function=$(complete -p crdtledger | sed 's/.*-F \\([^ ]*\\).*/\\1/')
$function crdtledger pos crdtledger
echo "${COMPREPLY[@]}"
"""
    done = subprocess.run(["bash", "-uc", script + probe], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "positions", done.stderr
