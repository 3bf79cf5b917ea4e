"""pycrdt documents under the laws: ``document_crdt`` describes one to ``check_laws``.

    text = document_crdt(
        change=lambda doc, word: doc.get("t", type=Text).insert(0, word),
        read=lambda doc: str(doc.get("t", type=Text)),
    )
    check_laws(text, operations=st.text("xyz", min_size=1, max_size=2))

The state is the writer's client id and the document as one Yjs update; a document is only built to be changed, merged or read. A
restored replica gets a client id of its own unless ``keeps_client_id``: a client that goes on from an old copy under its old id
writes other operations under numbers that are taken, and no exchange ever heals that, though the state vectors are equal.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from pycrdt import Doc

from crdtledger.testing.laws import Crdt

Op = TypeVar("Op")
CLIENT_ID_BITS = 53


class Document(NamedTuple):
    """A document at rest: who writes it, and its content as one update."""

    client_id: int
    update: bytes


def document_crdt(
    change: Callable[[Doc[Any], Op], object], read: Callable[[Doc[Any]], Any], *, keeps_client_id: bool = False
) -> Crdt[Document, Op]:
    """Describe a kind of pycrdt document. ``change(doc, op)`` is a change made at a replica, ``read(doc)`` what the document shows.

    ``keeps_client_id``: a replica that is restored from an old copy goes on under the client id that it had, as a program does that
    derives the id from its name or its machine.
    """

    def opened(*documents: Document) -> Doc[Any]:
        doc: Doc[Any] = Doc(client_id=documents[0].client_id)
        for document in documents:
            if document.update:
                doc.apply_update(document.update)
        return doc

    def update(state: Document, replica: str, op: Op) -> Document:
        doc = opened(state)
        with doc.transaction():
            change(doc, op)
        return Document(state.client_id, doc.get_update())

    def merge(state: Document, other: Document) -> Document:
        return Document(state.client_id, opened(state, other).get_update())

    def load(saved: Document, replica: str, life: int) -> Document:
        return Document(client_id(replica, 0 if keeps_client_id else life), saved.update)

    return Crdt(
        new=lambda replica: Document(client_id(replica, 0), b""),
        update=update,
        merge=merge,
        value=lambda state: read(opened(state)),
        load=load,
    )


def client_id(replica: str, life: int) -> int:
    """A client id that is the same in every run: 53 bits, what a JavaScript number holds."""
    drawn = hashlib.sha256(f"{replica} {life}".encode()).digest()
    return (int.from_bytes(drawn[:8], "big") >> (64 - CLIENT_ID_BITS)) or 1
