"""``crdtledger prove``: what an account has, as a file that anybody can check who has the genesis."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from crdtledger.edge.cli.options import DIFFERENT, GOOD, Format
from crdtledger.edge.cli.output import emit_one, say
from crdtledger.edge.cli.reach import connect

PROVE_TIMEOUT_S = 60.0
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")

app = App(
    name="prove",
    help="Write a proof of what is settled, to be checked by `crdtledger verify-proof` with no node running.",
    result_action="return_value",
)


@app.command
def account(
    name: Annotated[str, Parameter(help="Whose collateral and positions.")],
    /,
    *,
    target: Annotated[
        str | None,
        Parameter(help="The node to ask: its folder or address. Default: the first one of the cluster's folder."),
    ] = None,
    out: Annotated[
        Path | None,
        Parameter(
            name=["--out", "-o"],
            allow_leading_hyphen=True,
            help="The file to write; - for standard output. Default: NAME-hHEIGHT.proof.",
        ),
    ] = None,
    liabilities: Annotated[
        bool,
        Parameter(help="For auditors: show the account's part in the totals too. Discloses totals of other accounts."),
    ] = False,
    absent: Annotated[bool, Parameter(help="The name is no mistake: prove that such an account has nothing.")] = False,
    format: Format = "table",
    cluster: Annotated[
        Path | None, Parameter(help="The cluster's folder. Default: $CRDTLEDGER_CLUSTER, else the current one.")
    ] = None,
) -> int:
    """Prove what an account has at the newest certified height: every cell of it, and nothing of anybody else."""
    from crdtledger.edge import api
    from crdtledger.errors import BadInput, InvalidProof
    from reconcile.founding import log_origin, policy_of
    from reconcile.proofs import verify_proof

    with connect(target or _first_node(cluster), cluster) as node:
        genesis = node.endpoint.genesis
        assert genesis is not None
        if genesis.policies.agreement == "none":
            why = "this cluster's genesis has no agreement: nothing is ever settled, and nothing can be proven"
            raise BadInput(what=f"account {name!r}", where="prove", why=why)
        raw: bytes = node.request(api.Prove(name, liabilities, absent), PROVE_TIMEOUT_S)
    try:
        proven = verify_proof(raw, policy_of(genesis), log_origin(genesis), genesis.hash)
        if proven.account != name:
            raise InvalidProof("proof file", f"it is about account {proven.account!r}")
    except InvalidProof as fault:
        say(f"{node.endpoint.name} gave a proof that does not hold: {fault}")
        return DIFFERENT
    if liabilities:
        say(
            "for auditors: this file shows totals of other accounts, one for each level on the way to the total of an asset"
        )
    if out == Path("-"):
        sys.stdout.write(raw.decode())
        return GOOD
    file = out or Path(f"{_UNSAFE.sub('_', name)}-h{proven.height}.proof")
    file.write_bytes(raw)
    signers = sorted(signer.key.name.rpartition("/")[2] for signer in proven.signers)
    row = {
        "file": str(file),
        "account": name,
        "height": proven.height,
        "present": proven.present,
        "certified_by": signers,
    }
    emit_one(row, format)
    say(f"check it anywhere: crdtledger verify-proof {file} --genesis GENESIS.json")
    return GOOD


def _first_node(cluster: Path | None) -> str:
    """The folder of the first node that has one here. Raises BadInput when there is none, BadGenesis without a cluster."""
    import os

    from crdtledger.edge import folders
    from crdtledger.errors import BadInput

    home = cluster or Path(os.environ.get(folders.CLUSTER_VARIABLE, "."))
    if (home / folders.NODE).exists():
        return str(home)
    if not (home / folders.GENESIS).exists():
        why = f"no cluster's or node's folder at {home}: name the node, --target NODE, or --cluster DIR"
        raise BadInput(what="target", where="prove", why=why)
    paths = folders.node_folders(home)
    if not paths:
        raise BadInput(
            what="target", where="prove", why=f"no node has its folder in {home}: name one, --target ADDRESS"
        )
    return str(paths[0])
