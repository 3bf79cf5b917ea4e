"""A validator whose word about settled states cannot be trusted: an honest core, whose messages about them are changed on their way out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from crdtledger.edge import checkpointmessages as messages
from crdtledger.edge.checkpointmessages import PieceAsk, PieceTell, Standing, StateOffer
from crdtledger.edge.stateimage import piece_digest
from gossip import wire
from gossip.effects import Received, Send

FAR = 10**9
NOISE = b"noise" * 100


class StateLiar:
    """Passes for the core that it wraps. ``offer``: what it offered long ago."""

    def __init__(self, core: Any, lie: str) -> None:
        self._core = core
        self.lie = lie
        self.lied = 0
        self.offer: StateOffer | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._core, name)

    def start(self, now_us: int) -> list[Any]:
        return self._twist(self._core.start(now_us))

    def step(self, event: Any, now_us: int) -> list[Any]:
        out = self._twist(self._core.step(event, now_us))
        return [*out, *self._noise(event)] if "noise" in self.lie else out

    def _noise(self, event: Any) -> list[Any]:
        """To whoever asks for a piece: what was offered."""
        app = wire.decode(event.frame) if isinstance(event, Received) else None
        if not isinstance(app, wire.App) or app.channel != "checkpoint":
            return []
        asked = messages.decode_checkpoint_message(app.body)
        if not isinstance(asked, PieceAsk):
            return []
        body = messages.encode_checkpoint_message(PieceTell(asked.height, asked.number, NOISE))
        return [Send(event.peer, wire.encode(wire.App(app.channel, body)))]

    def _twist(self, effects: Sequence[Any]) -> list[Any]:
        out: list[Any] = []
        for effect in effects:
            app = wire.decode(effect.frame) if isinstance(effect, Send) else None
            if not isinstance(app, wire.App) or app.channel != "checkpoint":
                out.append(effect)
                continue
            said = messages.decode_checkpoint_message(app.body)
            told = self._say(said)
            self.lied += told != [said]
            bodies = map(messages.encode_checkpoint_message, told)
            out += [Send(effect.peer, wire.encode(wire.App(app.channel, body)), effect.after) for body in bodies]
        return out

    def _say(self, said: messages.CheckpointMessage) -> list[messages.CheckpointMessage]:
        if isinstance(said, Standing) and self.lie == "far ahead":
            return [Standing(FAR, FAR)]
        if isinstance(said, StateOffer):
            return self._offer(said)
        if isinstance(said, PieceTell):
            return self._tell(said)
        return [said]

    def _offer(self, said: StateOffer) -> list[messages.CheckpointMessage]:
        lines = said.certificate.splitlines(keepends=True)
        match self.lie:
            case "says nothing":
                return []
            case "noise":
                return [msgspec.structs.replace(said, pieces=(piece_digest(NOISE),))]
            case "as much noise as fits":
                return [msgspec.structs.replace(said, pieces=(piece_digest(NOISE),) * messages.MAX_PIECES)]
            case "an old state":
                return [self.offer or said]
            case "too few signatures":
                return [msgspec.structs.replace(said, certificate=b"".join(lines[:-1]))]
            case "a forged signature":
                at = len(said.certificate) - 10
                byte = b"B" if said.certificate[at : at + 1] == b"A" else b"A"
                forged = said.certificate[:at] + byte + said.certificate[at + 1 :]
                return [msgspec.structs.replace(said, certificate=forged)]
            case "another value":
                return [msgspec.structs.replace(said, value=said.value[:-1] + bytes([said.value[-1] ^ 1]))]
            case "offers without end":
                return [said] * 50
        return [said]

    def _tell(self, said: PieceTell) -> list[messages.CheckpointMessage]:
        content = said.content
        match self.lie:
            case "a changed byte":
                return [PieceTell(said.height, said.number, bytes([content[0] ^ 1]) + content[1:])]
            case "a byte less":
                return [PieceTell(said.height, said.number, content[:-1])]
            case "a byte more":
                return [PieceTell(said.height, said.number, content[:-1] + content[-2:])]
            case "no piece" | "noise" | "as much noise as fits":
                return []
            case "pieces without end":
                return [PieceTell(said.height, number, content) for number in range(100)] + [said] * 20
        return [said]


LIES = (
    "says nothing",
    "noise",
    "as much noise as fits",
    "an old state",
    "too few signatures",
    "a forged signature",
    "another value",
    "offers without end",
    "a changed byte",
    "a byte less",
    "a byte more",
    "no piece",
    "pieces without end",
    "far ahead",
)
