"""The report without nodes: what it says in every format, that nothing in it is taken for markup, and that it stays small."""

from __future__ import annotations

import base64
import csv
import io
import json
import lzma
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest

from crdtledger.edge.cli.stamps import moment
from crdtledger.edge.report import files, picture
from crdtledger.edge.report.commands import anchor, with_commands
from crdtledger.edge.report.contents import document
from crdtledger.edge.report.gathering import Gathered
from crdtledger.edge.report.page import ROWS_SHOWN, as_html
from crdtledger.errors import BadInput
from crdtledger.ledger.genesis import Genesis
from reconcile.divergence.breakrow import BreakRow, Cause, Correction, break_id, severity_of
from reconcile.divergence.rows import SettledCut
from tests.edge.sightings import NOW_US, SECOND_US, gathered, made_genesis, position, sighting

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</script><b>",
    "</script <b>",
    "{{ 7 * 7 }}",
    "a | b [x](javascript:alert(1)) `c` *d*",
    "=HYPERLINK(1)",
    "&lt;&amp;",
)
LIMIT_BYTES = 200_000


@pytest.fixture(scope="module")
def genesis(tmp_path_factory: pytest.TempPathFactory) -> Genesis:
    return made_genesis(tmp_path_factory.mktemp("genesis"))


def row(number: int = 0, account: str = "A", cause: Cause = Cause.EXTERNAL, **more: Any) -> BreakRow:
    field = f"fill of trade {number}"
    sources = ("node-1", "venue binance (venue.csv)")
    fact = {
        "kind": "bust",
        "venue": "binance",
        "trade_id": str(number),
        "account": account,
        "qty": "1.000",
        "price": "100.0",
    }
    told: dict[str, Any] = {
        "id": break_id(account, "PERP", field, sources),
        "scope": "ledger/venue",
        "account": account,
        "instrument": "PERP",
        "field": field,
        "sources": sources,
        "a": f"{account} buy {number}.000@100.0 at node-1/1.aabbccdd#{number}[0]",
        "cause": cause,
        "severity": severity_of(cause, "break"),
        "why": f"the statement has no such trade; the ledger has it at node-1/1.aabbccdd#{number}[0]",
        "first_seen_us": NOW_US - number * SECOND_US,
        "last_seen_us": NOW_US,
        "age": "<1h",
        "correction": Correction("if the venue is right, take the fill back", (fact,)),
    }
    made = BreakRow(**(told | more))
    return with_commands(made, "cluster/node-1", {}, ["venue.csv", "--account", account])


def page(given_: Gathered) -> str:
    return as_html(document(given_), moment).decode()


class Page(HTMLParser):
    """The tags, links and script of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.attributes: set[str] = set()
        self.scripts: list[str] = []
        self._within = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._within = tag
        self.attributes |= {name for name, _ in attrs}
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]

    def handle_data(self, data: str) -> None:
        if self._within == "script":
            self.scripts.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._within = ""


def test_hostile_names_are_text_in_every_format(genesis: Genesis) -> None:
    rows = [row(n, name, why=name, owner=name, resolution=name) for n, name in enumerate(HOSTILE)]
    names = [
        {"instrument": name, "source": name, "price": "1", "ts_us": NOW_US, "sequence": 0, "age_s": 0}
        for name in HOSTILE
    ]
    seen = sighting(genesis, marks=names, target=HOSTILE[0], positions=[position(HOSTILE[0], "1.000")])
    told = document(gathered(seen, rows))
    plain = document(gathered(sighting(genesis), [row(n) for n in range(len(HOSTILE))]))
    hostile, harmless = Page(as_html(told, moment).decode()), Page(as_html(plain, moment).decode())
    assert set(hostile.tags) == set(harmless.tags) | {"table"}
    assert hostile.tags.count("script") == 2
    assert "img" not in hostile.tags
    assert not {name for name in hostile.attributes if name.startswith("on")}
    assert "49" not in re.findall(r"<td>(\d+)<", as_html(told, moment).decode())
    markdown = files.as_markdown(told, moment).decode()
    assert "<script" not in markdown
    assert "<img" not in markdown
    assert "](javascript" not in markdown.replace("\\](", "")
    cells = [cell for line in csv.reader(io.StringIO(files.as_csv(told).decode())) for cell in line]
    assert not any(cell.startswith(("=", "@", "+")) for cell in cells)


def test_the_page_needs_no_network_and_runs_nothing(genesis: Genesis) -> None:
    text = page(gathered(sighting(genesis), [row()]))
    read = Page(text)
    assert all(link.startswith("docs/how-to/on-duty.md#") for link in read.links)
    assert not re.search(r"@import|url\((?!#)|https?:", text)
    assert 'type="application/json"' in text
    assert "default-src 'none'" in text


def test_a_page_of_500_breaks_stays_below_200_kilobytes(genesis: Genesis) -> None:
    rows = [row(n, f"ACCOUNT-{n:04d}") for n in range(500)]
    raw = as_html(document(gathered(sighting(genesis), rows)), moment)
    assert len(raw) < LIMIT_BYTES, len(raw)


def test_the_page_carries_its_document_for_programs(genesis: Genesis) -> None:
    told = document(gathered(sighting(genesis), [row(n, name) for n, name in enumerate(HOSTILE)]))
    read = Page(as_html(told, moment).decode())
    assert not set("<>&") & set(read.scripts[0])
    small = json.loads(read.scripts[0])
    keys, rows = small["breaks"]["keys"], small["breaks"]["rows"]
    assert [dict(zip(keys, each, strict=True)) for each in rows] == [{k: b[k] for k in keys} for b in told["breaks"]]
    assert (small["verdict"], small["breaks_in_all"]) == (told["verdict"], len(HOSTILE))
    assert lzma.decompress(base64.b64decode(read.scripts[1])) == files.as_json(told)


def test_the_worst_comes_first_and_the_verdict_before_everything(genesis: Genesis) -> None:
    rows = [
        row(1, cause=Cause.FEE),
        row(2, cause=Cause.FORK),
        row(3, cause=Cause.EXTERNAL),
        row(4, cause=Cause.ROUNDING),
    ]
    told = document(gathered(sighting(genesis), rows))
    assert [problem["cause"] for problem in told["problems"]] == ["FORK", "EXTERNAL", "FEE", "ROUNDING"]
    text = as_html(told, moment).decode()
    order = [text.index("4 problems: 1 critical, 1 high, 1 medium, 1 low"), text.index("Problems, worst first")]
    order += [text.index(f">{cause}</a> ·") for cause in ("FORK", "EXTERNAL", "FEE", "ROUNDING")]
    assert order == sorted(order)


def test_a_problem_says_each_thing_that_its_rows_say_once(genesis: Genesis) -> None:
    whys = ["too <few>", "nothing heard", "too <few>"]
    made = gathered(sighting(genesis), [row(n, why=why, root="cut") for n, why in enumerate(whys)])
    (problem,) = document(made)["problems"]
    assert sorted(problem["why"]) == ["nothing heard", "too <few>"]
    assert problem["title"].endswith(" and 2 more rows")
    text = page(made)
    assert ("<div>too &lt;few&gt;</div>" in text, text.count("<div>nothing heard</div>")) == (True, 1)
    assert "too &lt;few&gt;" in files.as_markdown(document(made), moment).decode()
    two = gathered(sighting(genesis), [row(n, root="cut") for n in range(2)])
    assert document(two)["problems"][0]["title"].endswith(" and 1 more row")


def test_severity_is_told_by_a_word_and_a_shape_and_not_by_colour_alone(genesis: Genesis) -> None:
    text = page(gathered(sighting(genesis), [row(1, cause=Cause.FORK), row(2, cause=Cause.FEE)]))
    assert "✖ critical" in text
    assert "◆ medium" in text


def test_nothing_wrong_is_said_as_such_and_no_matches_too(genesis: Genesis) -> None:
    text = page(gathered(sighting(genesis), []))
    assert "No problem found" in text
    assert "nothing to calibrate" in text


def test_every_row_leads_to_the_section_of_its_cause(genesis: Genesis) -> None:
    rows = [row(n, cause=cause) for n, cause in enumerate(Cause)]
    read = Page(page(gathered(sighting(genesis), rows)))
    for cause in Cause:
        assert read.links.count(anchor(cause)) >= 2


def test_every_cause_has_its_section_in_the_runbook() -> None:
    runbook = Path(__file__).parents[2] / "docs" / "how-to" / "on-duty.md"
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", runbook.read_text(), flags=re.S | re.M))
    assert set(sections) == {cause.value for cause in Cause}
    for name, text in sections.items():
        for part in ("**What it means.**", "**What to check.**", "**What to do.**"):
            assert part in text, f"{name} lacks {part}"


def test_what_nobody_can_see_is_unknown_and_not_zero(genesis: Genesis) -> None:
    seen = sighting(genesis)
    silent = msgspec.structs.replace(seen.holders[2], heard_us=NOW_US - 60 * SECOND_US)
    seen = msgspec.structs.replace(seen, holders=(*seen.holders[:2], silent))
    made = gathered(seen, seen.moment(gathered(seen, []).moment.rules, (), "", {}).of_unheard(seen.own, [silent]))
    told = document(made)
    assert [lane["lacks"]["node-3"] for lane in told["lanes"]] == [None]
    (problem,) = told["problems"]
    assert (problem["cause"], told["breaks"][0]["b"]) == ("PARTITIONED", None)
    assert "unknown" in page(made)


def after_a_partition(genesis: Genesis, **second: Any) -> Gathered:
    """node-2 was silent for 90 s, until 30 s ago, and for 40 s a day before yesterday; node-3 as ``second`` says."""
    day_us = 86_400 * SECOND_US
    over = (
        (NOW_US - 2 * day_us, NOW_US - 2 * day_us + 40 * SECOND_US),
        (NOW_US - 120 * SECOND_US, NOW_US - 30 * SECOND_US),
    )
    first, two, three = sighting(genesis).holders
    holders = (first, msgspec.structs.replace(two, silences=over), msgspec.structs.replace(three, **second))
    return gathered(sighting(genesis, holders=holders), [])


def test_a_partition_that_is_over_stays_in_the_timeline_and_is_no_problem(genesis: Genesis) -> None:
    made = after_a_partition(genesis)
    told = document(made)
    assert told["verdict"]["good"]
    assert [((each["to_us"] - each["from_us"]) // SECOND_US, each["node"]) for each in told["partitions"]] == [
        (40, "node-2"),
        (90, "node-2"),
    ]
    text = page(made)
    assert re.findall(r"<title>silent for ([^<]*)<", text) == ["1m 30s"], "drawn are those of the last day"
    assert (
        f"<td>node-2</td><td>{moment(NOW_US - 120 * SECOND_US)}</td><td>{moment(NOW_US - 30 * SECOND_US)}</td>" in text
    )
    markdown = files.as_markdown(told, moment).decode()
    assert f"- node-2 from {moment(NOW_US - 120 * SECOND_US)} to {moment(NOW_US - 30 * SECOND_US)}\n" in markdown
    assert json.loads(files.as_json(told))["partitions"] == told["partitions"]


@pytest.mark.parametrize(
    ("heard_us", "word"), [(NOW_US - 60 * SECOND_US, "not heard of for 1m"), (0, "never heard of")]
)
def test_a_partition_that_lasts_stands_beside_those_that_are_over(genesis: Genesis, heard_us: int, word: str) -> None:
    made = after_a_partition(genesis, heard_us=heard_us)
    assert {"node": "node-3", "from_us": heard_us, "to_us": None} in document(made)["partitions"]
    text = page(made)
    assert [f"<title>{each}<" in text for each in (word, "silent for 1m 30s")] == [True, True]
    assert "<strong>still silent</strong>" in text


def test_who_was_never_lost_sight_of_is_said_to_be_so(genesis: Genesis) -> None:
    told = gathered(sighting(genesis), [])
    assert document(told)["partitions"] == []
    assert "has heard of every node without a break" in page(told)
    assert "Not heard of" not in files.as_markdown(document(told), moment).decode()


def test_pauses_between_checkpoints_are_seen(genesis: Genesis) -> None:
    decided = [NOW_US - n * SECOND_US for n in (90, 89, 88, 87, 30, 29)]
    assert picture.pauses(decided, NOW_US) == [(decided[3], decided[4])]
    cuts = [SettledCut(n, at, {}) for n, at in enumerate(decided, 1)]
    assert "none for 57s" in page(gathered(sighting(genesis), [], cuts))


@pytest.mark.parametrize("parquet", [False, True])
def test_arrow_and_parquet_hold_the_same_rows(genesis: Genesis, parquet: bool) -> None:
    import pyarrow as arrow
    from pyarrow import ipc
    from pyarrow import parquet as parquet_files

    told = document(gathered(sighting(genesis), [row(n, name) for n, name in enumerate(HOSTILE)]))
    raw = arrow.BufferReader(files.as_arrow(told, parquet))
    read = parquet_files.read_table(raw) if parquet else ipc.open_file(raw).read_all()
    assert read.column("account").to_pylist() == [each["account"] for each in told["breaks"]]
    assert read.column("first_seen_us").to_pylist() == [each["first_seen_us"] for each in told["breaks"]]
    assert tuple(read.column_names) == files.COLUMNS


def test_without_the_library_the_error_says_which_extra_brings_it(
    genesis: Genesis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(BadInput, match=r"crdtledger\[arrow\]"):
        files.as_arrow(document(gathered(sighting(genesis), [])), False)


def test_more_rows_than_a_page_holds_are_counted_and_told_how_to_be_had(genesis: Genesis) -> None:
    rows = [row(n) for n in range(ROWS_SHOWN + 7)]
    text = page(gathered(sighting(genesis), rows))
    assert "7 more rows" in text
    assert f'"breaks_in_all":{ROWS_SHOWN + 7}' in text
