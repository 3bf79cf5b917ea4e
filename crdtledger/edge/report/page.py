"""The report as one page that needs nothing else: no network, no script, no colour. Pure but for reading its own template.

Its summary (``contents.summary``) lies in it as JSON, in ``<script type="application/json" id="report">``; the whole document, as the JSON
format writes it, in ``id="report-whole"``: xz, then base64, because 500 breaks with all their facts are not small. Every text that comes
from the ledger is escaped where it is put in, and the page forbids itself to load or run anything.
"""

from __future__ import annotations

import json
import lzma
from base64 import b64encode
from collections.abc import Mapping
from fractions import Fraction
from importlib import resources
from typing import Any, Final

import jinja2
from markupsafe import Markup

from crdtledger.edge.report import picture
from crdtledger.edge.report.commands import anchor
from crdtledger.edge.report.contents import BUCKETS, summary
from crdtledger.edge.report.files import Moment, as_json
from reconcile.divergence.breakrow import Cause

PROBLEMS_SHOWN: Final = 12
ROWS_SHOWN: Final = 500
PARTITIONS_SHOWN: Final = 20
SIGNS: Final = {"critical": "✖", "high": "▲", "medium": "◆", "low": "●", "info": "○"}


def as_html(document: Mapping[str, Any], moment: Moment) -> bytes:
    """The page. ``moment``: a time as text."""
    template = resources.files("crdtledger.edge.report").joinpath("page.html.j2").read_text("utf-8")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    page = environment.from_string(template).render(
        d=document,
        rows={row["id"]: row for row in document["breaks"]},
        most=PROBLEMS_SHOWN,
        rows_most=ROWS_SHOWN,
        partitions_most=PARTITIONS_SHOWN,
        buckets=BUCKETS,
        signs=SIGNS,
        moment=moment,
        length=picture.length,
        risk=lambda sums: ", ".join(f"{amount} {asset}" for asset, amount in sums.items()),
        json=json.dumps,
        runbook=lambda cause: anchor(Cause(cause), document["runbook"]),
        widest=max((cause["rows"] for cause in document["causes"]), default=1),
        share=_share,
        bar=picture.bar,
        lag_map=picture.lag_map(document["lanes"], [node["node"] for node in document["nodes"]]),
        timeline=_timeline(document),
        embedded=_embedded(document),
        whole=_whole(document),
    )
    return page.encode()


def _share(amount: str, rights: Mapping[str, str]) -> float:
    whole = sum(Fraction(each) for each in rights.values())
    return float(Fraction(amount) / whole) if whole else 0.0


def _timeline(document: Mapping[str, Any]) -> Markup:
    rows = {row["id"]: row for row in document["breaks"]}
    spells = [(each["node"], each["from_us"], each["to_us"]) for each in document["partitions"]]
    began = [
        (problem["cause"], rows[problem["breaks"][0]]["first_seen_us"])
        for problem in document["problems"][:PROBLEMS_SHOWN]
        if problem["cause"] != Cause.PARTITIONED.value
    ]
    return picture.timeline(document["checkpoints"], spells, began, document["now_us"])


def _embedded(document: Mapping[str, Any]) -> Markup:
    """The summary as JSON that no text in it can end: it holds no ``<``, ``>`` or ``&``."""
    small = summary(document, PROBLEMS_SHOWN, ROWS_SHOWN)
    text = json.dumps(small, ensure_ascii=True, separators=(",", ":"))
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def _whole(document: Mapping[str, Any]) -> str:
    """The document, small; the same bytes for the same document."""
    return b64encode(lzma.compress(as_json(document))).decode()
