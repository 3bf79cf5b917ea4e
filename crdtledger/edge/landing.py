"""Standing on a settled state that came from a peer, as a start from it would: the last step of a jump.

The state is verified and durable by now, so a power cut anywhere in here starts from it. What is known of heights that are passed by
(votes, decisions, cosignatures that wait for their certificate) is let go of together with their records: nobody asks for it any more, and
a validator that stands on a height signs nothing of those below it.
"""

from __future__ import annotations

from crdtledger.edge.adapter import GossipReplica
from crdtledger.edge.certificatedesk import CertificateDesk
from crdtledger.edge.effects import Output
from crdtledger.edge.jumping import Installing
from crdtledger.edge.settling import Settling
from gossip.effects import Notify


def land(
    ready: Installing, gossiped: GossipReplica, settling: Settling, desk: CertificateDesk
) -> tuple[frozenset[bytes], list[Output]]:
    """Move everything that stands on a height there. Returns the lanes that are settled beyond what was held of them, and what is to be
    done: the journal lets go of what the state stands for."""
    checkpoint, _, log, state, commitments, _ = ready.opened
    before, height = settling.height, checkpoint.height
    overtaken = gossiped.jump(height, checkpoint.digest, state, dict(enumerate(log.leaf_hashes(), 1)))
    settling.jump(checkpoint.record, commitments)
    desk.begin(ready.snapshot, commitments)
    told = Notify("checkpoint.jumped", {"height": height, "from": before})
    return overtaken, [told, desk.prune(ready.snapshot, ready.position)]
