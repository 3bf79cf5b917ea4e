"""``crdtledger backup`` and ``restore``: copies of a node's journal.

The checkpoint store needs none: every node's holds the same heights, and ``crdtledger checkpoint copy`` takes them over verified."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from crdtledger.edge.cli.options import GOOD, Format, Keys, Target
from crdtledger.edge.cli.output import emit_one, say
from crdtledger.edge.cli.reach import connect

BACKUP_TIMEOUT_S = 300.0


def backup(
    target: Target,
    file: Annotated[Path, Parameter(help="A new file, on the node's machine.")],
    /,
    *,
    format: Format = "table",
    cluster: Keys = None,
) -> int:
    """Copy a node's journal, consistently, whether the node runs or not."""
    from crdtledger.edge import api, folders
    from crdtledger.ledger import backup as copying

    path = file.absolute()
    folder = folders.locate(target, cluster).folder
    if folder is not None and folders.read_run(folder) is None:
        report = copying.backup(folder / folders.JOURNAL, path)
        answer = {"path": str(path), "records": report.records, "position": report.position}
    else:
        with connect(target, cluster) as node:
            answer = node.request(api.Backup(str(path)), BACKUP_TIMEOUT_S)
    emit_one(answer, format)
    return GOOD


def restore(
    folder: Annotated[Path, Parameter(help="The folder of a node that is stopped.")],
    file: Annotated[Path, Parameter(help="A backup.")],
    /,
    *,
    format: Format = "table",
) -> int:
    """Put a backup in the place of a stopped node's journal; the old journal is kept beside it.

    The node then opens a new epoch: it records at once, gets what the backup lacks back from the other nodes, and
    spends nothing before it has heard all of them.
    """
    from crdtledger.edge import folders
    from crdtledger.edge.cli.stamps import stamp
    from crdtledger.ledger import backup as copying

    node = folders.open_node(folder)
    aside = stamp()
    report = copying.restore(file, node.journal, aside=aside)
    kept = node.journal.with_name(f"{node.journal.name}.{aside}")
    row = {"node": node.name, "journal": str(node.journal), "records": report.records, "position": report.position}
    emit_one({**row, "replaced": str(kept) if kept.exists() else None}, format)
    if node.genesis.policies.agreement != "none" and not node.checkpoints.exists():
        say(
            f"there is no checkpoint store in {folder}: take another node's over, `crdtledger checkpoint copy NODE {folder}`"
        )
    say(
        f"{node.name} will open a new epoch when it starts: it records at once, refills from its peers, and spends "
        "nothing before it has heard all of them"
    )
    return GOOD
