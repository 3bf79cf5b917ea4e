"""All commands, and what becomes of errors: one line on standard error, and the exit code of who must act."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from cyclopts import App, CycloptsError, Group, Parameter

from crdtledger.edge.cli import (
    backup,
    board,
    book,
    breaks,
    checkpoint,
    collateral,
    completion,
    define,
    demo,
    diff,
    doctor,
    drill,
    explain,
    frontier,
    imports,
    init,
    instruments,
    maelstrom,
    matches,
    members,
    node,
    orders,
    positions,
    prove,
    recon,
    record,
    report,
    simulate,
    status,
    up,
    verifyproof,
    wait,
)
from crdtledger.edge.cli.options import INTERRUPTED, WRONG_USE
from crdtledger.errors import LedgerError

BROKEN_PIPE = 141

_RUN = Group("Run", sort_key=1)
_RECORD = Group("Record", sort_key=2)
_READ = Group("Read", sort_key=3)
_PROVE = Group("Prove", sort_key=4)
_OPERATE = Group("Operate", sort_key=5)


def _version() -> str:
    from importlib.metadata import version

    return version("crdtledger")


app = App(
    name="crdtledger",
    help="A position and collateral ledger that keeps trading through partitions and never spends collateral twice.",
    help_epilogue="TARGET is a node's folder or its address. Exit: 0 good, 1 a difference or break was found, "
    "2 wrong use, 3 unreachable.",
    version=_version,
    version_flags=["--version"],
    help_format="plaintext",  # to import a reader of markup is a sixth of the wait for the list
    default_parameter=Parameter(negative=(), show_default=lambda value: value or None),
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)

_COMMANDS: Sequence[tuple[Group, str, Callable[..., int]]] = (
    (_RUN, "demo", demo.demo),
    (_RUN, "init", init.init),
    (_RUN, "up", up.up),
    (_RUN, "node", node.node),
    (_RECORD, "import", imports.import_),
    (_RECORD, "record", record.record),
    (_RECORD, "define", define.define),
    (_RECORD, "board", board.board),
    (_READ, "positions", positions.positions),
    (_READ, "collateral", collateral.collateral),
    (_READ, "orders", orders.orders),
    (_READ, "matches", matches.matches),
    (_READ, "book", book.book),
    (_READ, "instruments", instruments.instruments),
    (_READ, "frontier", frontier.frontier),
    (_READ, "members", members.members),
    (_READ, "status", status.status),
    (_READ, "breaks", breaks.breaks),
    (_READ, "wait", wait.wait),
    (_READ, "diff", diff.diff),
    (_READ, "explain", explain.explain),
    (_READ, "recon", recon.recon),
    (_READ, "report", report.report),
    (_PROVE, "verify-proof", verifyproof.verify_proof),
    (_OPERATE, "doctor", doctor.doctor),
    (_OPERATE, "backup", backup.backup),
    (_OPERATE, "restore", backup.restore),
    (_OPERATE, "simulate", simulate.simulate),
    (_OPERATE, "maelstrom", maelstrom.maelstrom),
    (_OPERATE, "completion", completion.completion),
)
for _group, _name, _command in _COMMANDS:
    app.command(_command, name=_name, group=_group, help_format="markdown")
for _group, _app in ((_PROVE, checkpoint.app), (_PROVE, prove.app), (_OPERATE, drill.app)):
    _app.group = (_group,)
    app.command(_app)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code. Nothing but a defect of this program raises."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = app(given, exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except CycloptsError as error:
        words = " ".join(str(error).split())
        command = next((word for word in given[:1] if not word.startswith("-") and word in app), "")
        return _complain(f"{words} See `{' '.join(filter(None, ['crdtledger', command, '--help']))}`.", WRONG_USE)
    except LedgerError as error:
        return _complain(" ".join(str(error).split()), error.exit_code)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read us has gone; a second complaint at interpreter exit would help nobody.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return _complain(f"{place}{error.strerror or error}", WRONG_USE)
    return code if isinstance(code, int) else 0


def _complain(line: str, code: int) -> int:
    sys.stderr.write(f"crdtledger: {line}\n")
    return code
