"""``crdtledger doctor``: is a node's folder sound, and keeping what is when it is not."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from cyclopts import Parameter

from crdtledger.edge.cli.options import DIFFERENT, GOOD, Format
from crdtledger.edge.cli.output import emit, say

if TYPE_CHECKING:
    from crdtledger.edge.folders import NodeFolder
    from crdtledger.ledger.examination import Report
    from crdtledger.ledger.genesis import Genesis

COLUMNS = ("check", "verdict", "detail")


class Finding(NamedTuple):
    """One check. ``verdict``: ``good``, ``note`` (worth knowing), or ``bad``."""

    check: str
    verdict: str
    detail: str


def doctor(
    folder: Annotated[Path, Parameter(help="A node's folder.")],
    /,
    *,
    repair: Annotated[
        bool, Parameter(help="Keep the part of the journal that holds, move the bad file aside.")
    ] = False,
    format: Format = "table",
) -> int:
    """Check a node's configuration, keys, journal and checkpoints. Exit 1 when something is wrong.

    With --repair (node stopped) the journal is cut back to what can be proven; the other nodes send the rest when the
    node starts again, in a new epoch.
    """
    from crdtledger.edge import folders
    from crdtledger.edge.cli.stamps import stamp
    from crdtledger.ledger.examination import examine, truncate_after

    node = folders.open_node(folder)  # exit 2 with the file and the place in it
    findings = [
        Finding("genesis and keys", "good", f"{node.name} of {node.genesis.cluster!r} at {node.member.address}")
    ]
    findings += _secrets(folder)
    if not node.journal.exists():
        findings.append(Finding("journal", "note", "there is none yet: the node makes one when it starts"))
    else:
        report = examine(node.journal)
        findings += _journal(report, node.genesis)
        if repair and not report.sound:
            aside = stamp()
            kept = truncate_after(node.journal, report.position, aside=aside)
            moved = node.journal.with_name(f"{node.journal.name}.{aside}")
            verdict = "good" if kept.sound else "bad"
            findings = [one for one in findings if one.verdict != "bad" or not one.check.startswith("journal")]
            findings.append(
                Finding("journal repaired", verdict, f"{kept.records} records kept; the bad file is {moved}")
            )
            say("start the node: it opens a new epoch and its peers send what was cut off")
        elif repair:
            say("nothing to repair: the journal holds")
    findings += _checkpoints(node)
    emit([finding._asdict() for finding in findings], COLUMNS, format)
    return DIFFERENT if any(finding.verdict == "bad" for finding in findings) else GOOD


def _secrets(folder: Path) -> Iterator[Finding]:
    from crdtledger.edge import folders

    path = folder / folders.SECRETS
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        yield Finding("secrets", "bad", f"{path} can be read by others (mode {mode:04o}): chmod 600 {path}")
    else:
        yield Finding("secrets", "good", f"mode {mode:04o}")


def _journal(report: Report, genesis: Genesis) -> Iterator[Finding]:
    from crdtledger.ledger.batch import lane_text

    if report.sound:
        yield Finding("journal", "good", f"{report.records} records up to position {report.position}")
    elif report.first_bad is not None:
        place = f"record {report.first_bad}: " if report.first_bad else ""
        why = f"{place}{report.reason}; {report.records} records before it hold: --repair keeps them"
        yield Finding("journal", "bad", why)
    for problem in report.sqlite_problems:
        yield Finding("journal file", "bad", problem)
    if report.restored:
        yield Finding("journal history", "note", f"{report.restored}: the next start opens a new epoch")
    for lane, held in sorted(report.lanes.items()):
        gaps = ", ".join(f"{first}-{last}" for first, last in held.gaps)
        text: Any = lane_text(lane, genesis)
        detail = f"{held.batches} batches, {held.first}-{held.last}" + (f", missing {gaps}" if gaps else "")
        yield Finding(f"lane {text}", "note" if gaps else "good", detail)


def _checkpoints(node: NodeFolder) -> Iterator[Finding]:
    """The checkpoint store, judged like a stranger's."""
    from crdtledger.edge.cli.heights import judged
    from crdtledger.errors import InvalidProof
    from reconcile.stores import StoreUnusable

    if not node.checkpoints.exists():
        if node.genesis.policies.agreement != "none":
            yield Finding("checkpoints", "note", "there is no store yet: the node makes one when it starts")
        return
    height = 0
    try:
        for one in judged(str(node.checkpoints), node.genesis):
            height = one.height
    except (InvalidProof, StoreUnusable) as fault:
        mend = f"stop the node, move {node.checkpoints} away, then `crdtledger checkpoint copy` another node's here"
        yield Finding("checkpoints", "bad", f"{fault}; {height} before it hold; {mend}")
    else:
        yield Finding("checkpoints", "good", f"{height} certified, each follows from the one before")
