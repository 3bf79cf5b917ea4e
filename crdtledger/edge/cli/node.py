"""``crdtledger node``: run one node in the foreground."""

from __future__ import annotations

from pathlib import Path


def node(folder: Path, /) -> int:
    """Run the node of a folder until SIGTERM or Ctrl-C. Says `ready` once it listens; its log is FOLDER/node.log.

    Parameters
    ----------
    folder
        The node's folder, e.g. cluster/node-1.
    """
    from crdtledger.edge.process import serve

    return serve(folder, announce=True)
