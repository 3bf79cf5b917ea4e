"""Maelstrom's messages and the errors it knows: one JSON object a line.

A request has a ``type`` and a ``msg_id``; its answer says ``in_reply_to`` that number. See doc/protocol.md of Maelstrom.
"""

from __future__ import annotations

import enum
import json
from typing import Any

import msgspec

from crdtledger.errors import BadInput

MAX_SHOWN = 200


class Code(enum.IntEnum):
    """The errors that we answer with. All but CRASH are definite: what was asked for did not happen and will not."""

    NOT_SUPPORTED = 10
    TEMPORARILY_UNAVAILABLE = 11
    MALFORMED_REQUEST = 12
    CRASH = 13
    PRECONDITION_FAILED = 22


class Message(msgspec.Struct, frozen=True):
    """One line. What else stands beside these three is nothing to us."""

    src: str
    dest: str
    body: dict[str, Any]


class Request(msgspec.Struct, frozen=True):
    """What ``src`` asked for, and the number that it wants to hear again."""

    src: str
    number: int
    type: str
    body: dict[str, Any]


class Refused(Exception):
    """A request is answered with this error."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code = code


def decode(line: bytes) -> Message:
    """The message of a line. Raises BadInput."""
    try:
        return msgspec.convert(json.loads(line, parse_constant=_not_json), Message)
    except (ValueError, RecursionError) as error:  # among them what is not UTF-8, and numbers too long to be read
        raise BadInput(what=repr(line[:MAX_SHOWN]), where="standard input", why=str(error)) from None


def _not_json(word: str) -> Any:
    raise ValueError(f"{word} is not JSON")


def encode(src: str, dest: str, body: dict[str, Any]) -> bytes:
    """A message's line. (The standard library's JSON: others cannot write the integers that a counter may come to.)"""
    return json.dumps({"src": src, "dest": dest, "body": body}).encode() + b"\n"


def request_of(message: Message) -> Request:
    """The request that a message is. Raises Refused where it is answerable and none, BadInput where it is not."""
    body = message.body
    number, kind = body.get("msg_id"), body.get("type")
    if "in_reply_to" in body:  # answering answers would never end
        raise BadInput(what=str(kind), where=message.src, why="an answer to something that was not asked")
    if not isinstance(number, int) or isinstance(number, bool):
        raise BadInput(
            what=str(kind), where=message.src, why="a request has an integer msg_id, by which it is answered"
        )
    if not isinstance(kind, str):
        raise Refused(Code.MALFORMED_REQUEST, "a body has a type, which is text")
    return Request(message.src, number, kind, body)
