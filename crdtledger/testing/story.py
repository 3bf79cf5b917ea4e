"""What happened in an example of a cluster machine, told for people: one numbered line a step, what came of it, what broke.

A line is written when its step is taken; what a client was answered is known later, and is looked up when the story is told.
The story of a failing example goes out as a note on its exception, so that any test runner shows it.

Not here: what the steps do (``machine``), how a campaign's run is told (``edge.simulate.story``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

import msgspec

from crdtledger.edge import api
from crdtledger.edge.simulate.writing import Json
from crdtledger.errors import LedgerError
from gossip.network import Faults

_NUMBERED: Final = re.compile(r" *\d+\. ")
WIDTH = 300
"""What is longer than this is cut off, in characters: a fault's detail can be a whole view."""
TITLE = "The story of "
"""What every story begins with."""


_TOLD: Final = {
    "order": "to {side} {qty} {instrument} at {price} for {account}",
    "cancel": "of order {order}",
    "match": "of {qty} of {maker_home}'s {maker} for {taker}",
    "accept": "of {qty} of {match_home}'s {match}",
    "share": "of {qty} of {home}'s {order} with {node}",
    "reveal": "of order {order}",
}
"""What facts about orders say, in words."""


class _Line(msgspec.Struct):
    text: str
    handles: list[Any]
    after: list[str]


class Story:
    """``replies``: the answers that came, by handle (``Simulation.replies``)."""

    def __init__(self, title: str, replies: Mapping[Any, bytes] | None = None) -> None:
        self.title = title
        self._replies = {} if replies is None else replies  # which are still to come
        self._lines: list[_Line] = []

    def __len__(self) -> int:
        """How many steps were taken."""
        return len(self._lines)

    def step(self, text: str) -> None:
        """A new step begins."""
        self._lines.append(_Line(text, [], []))

    def asked(self, handle: Any) -> None:
        """The step asked a node for something whose answer comes under ``handle``."""
        if self._lines:
            self._lines[-1].handles.append(handle)

    def then(self, text: str) -> None:
        """What came of the step, or belongs to it."""
        if self._lines:
            self._lines[-1].after.append(text)

    def tell(self, error: BaseException | None = None) -> str:
        """The whole story; with ``error``, how it ended."""
        lines = [TITLE + self.title]
        lines += [f"{number:3}. {self._told(line)}" for number, line in enumerate(self._lines, 1)]
        if error is not None:
            lines.append(f"broken: {_short(str(error) or type(error).__name__)}")
            lines.append(
                "To play it again, put the line @reproduce_failure(...), which Hypothesis prints too, above the machine's class."
            )
        return "\n".join(lines)

    def _told(self, line: _Line) -> str:
        answers = ", ".join(answer_in_words(self._replies.get(handle)) for handle in line.handles)
        return "; ".join([f"{line.text}: {answers}" if answers else line.text, *line.after])


def story_of(error: BaseException) -> str:
    """The story that a failing machine left on its exception; empty if there is none."""
    return next((note for note in getattr(error, "__notes__", ()) if note.startswith(TITLE)), "")


def steps_of(story: str) -> list[str]:
    """The steps that a story tells."""
    return [line.strip() for line in story.splitlines() if _NUMBERED.match(line)]


def _short(text: str) -> str:
    return text if len(text) <= WIDTH else f"{text[:WIDTH]}..."


def answer_in_words(body: bytes | None) -> str:
    """What a client heard: a refusal in its own words."""
    if body is None:
        return "no answer"
    try:
        answer = api.decode_answer(body)
    except LedgerError as error:
        return f"refused, {_short(str(error))}"
    if isinstance(answer, Mapping) and answer.get("duplicates") and not answer.get("facts"):
        return "acknowledged, it was recorded already"
    return "acknowledged"


def fact_in_words(fact: Json) -> str:
    """A client's fact, in a few words."""
    kind = fact.get("kind", "fact")
    if kind in ("fill", "bust"):
        deal = f"{fact['side']} {fact['qty']} {fact['instrument']} at {fact['price']} for {fact['account']}"
        return f"{kind} {fact['trade_id']}: {deal}, fee {fact['fee']}"
    if kind in ("account", "instrument"):
        return f"{kind} {fact['name']}"
    named = f"{kind} {fact['id']}" if "id" in fact else str(kind)
    if kind in _TOLD:
        return f"{named} {_TOLD[kind].format(**fact)}"
    if kind == "void":
        return f"{named} of {fact['reserve']}"
    if "amount" not in fact:
        return named
    owner = fact["reserve"] if kind == "post" else fact["account"]
    goal = fact.get("credit") or fact.get("node")
    return f"{named} of {fact['amount']} {fact['asset']} of {owner}" + (f" to {goal}" if goal else "")


def facts_in_words(facts: Sequence[Json]) -> str:
    """A call's facts; of a long one, how many."""
    return ", ".join(map(fact_in_words, facts)) if len(facts) <= 4 else f"{len(facts)} facts"


def time_in_words(us: int) -> str:
    """A span of virtual time."""
    if us % 1_000_000 == 0:
        return f"{us // 1_000_000} s"
    return f"{us / 1_000_000:g} s" if abs(us) >= 1_000_000 else f"{us / 1_000:g} ms"


def sides_in_words(sides: Sequence[Collection[str]]) -> str:
    """Who reaches whom: ``n0 | n1,n2``."""
    return " | ".join(",".join(side) for side in sides)


def count_in_words(count: int, what: str, plural: Callable[[str], str] = lambda word: f"{word}s") -> str:
    """``1 write``, ``2 writes``."""
    return f"{count} {what if count == 1 else plural(what)}"


def next_in_words(count: int, what: str) -> str:
    """``the next write``, ``the next 2 writes``."""
    return f"the next {what}" if count == 1 else f"the next {count} {what}s"


def faults_in_words(faults: Faults) -> str:
    """The faults that are not the calmest there are, one after the other."""
    calm = Faults(latency_mean_us=200, trace_lines=0)
    changed = {
        name: value for name in Faults.__struct_fields__ if (value := getattr(faults, name)) != getattr(calm, name)
    }
    return ", ".join(f"{name} {value}" for name, value in changed.items()) or "a calm network"
