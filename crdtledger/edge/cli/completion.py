"""``crdtledger completion``: what a shell needs to complete commands and options."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from crdtledger.edge.cli.options import GOOD


def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], Parameter(help="For which shell.")],
    /,
) -> int:
    """Print a completion script, e.g. `source <(crdtledger completion bash)`."""
    from crdtledger.edge.cli.app import app

    print(app.generate_completion(prog_name="crdtledger", shell=shell))
    return GOOD
