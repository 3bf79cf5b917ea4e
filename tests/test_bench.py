"""The benches' own frame: medians, goals, pictures, and that what is wrong fails and what is slow does not."""

from __future__ import annotations

import json
import math
import re
import string
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import one as frame
from bench import tabled
from bench.__main__ import BENCHES, main
from bench.drawing import draw
from bench.measured import OURS, Curve, Goal, Plan, Result, Row, Wrong, figure, rounds, slope, table


def result(*goals: Goal) -> Result:
    rows = [Row(OURS, (1.0, 2.0, 3.0), 2.0, 50.0, 1.0), Row("<other> & co", (4.0,), 4.0, 25.0, 2.0)]
    curve = Curve("join", "facts held", "s", ((10, 1.0), (100, 10.0)), slope([(10, 1.0), (100, 10.0)]))
    return Result("made up", "What & how", "facts", rows, goals, {"facts": 100}, curves=[curve])


def test_rivals_take_turns_and_are_told_by_their_medians() -> None:
    turns: list[str] = []

    def taking(name: str, seconds: list[float]) -> float:
        turns.append(name)
        return seconds.pop(0)

    ours, other = [3.0, 1.0, 2.0], [8.0, 4.0, 6.0]
    rows = rounds({OURS: lambda: taking("ours", ours), "other": lambda: taking("other", other)}, 3, 12)
    assert turns == ["ours", "other"] * 3
    assert [(row.median, row.rate, row.ratio) for row in rows] == [(2.0, 6.0, 1.0), (6.0, 2.0, 3.0)]


@pytest.mark.parametrize(
    ("at", "bound", "holds"), [("least", 5, True), ("least", 6, False), ("most", 5, True), ("most", 4, False)]
)
def test_a_goal_holds_at_its_bound(at: str, bound: float, holds: bool) -> None:
    goal = Goal("speed", 5, at, bound, "facts/s")  # type: ignore[arg-type]
    assert goal.holds is holds
    assert ("holds" if holds else "MISSED") in table(result(goal))


def test_a_picture_is_well_formed_and_says_all() -> None:
    picture = draw(result(Goal("speed", 5, "least", 6, "facts/s")))
    assert ET.fromstring(picture).tag == "{http://www.w3.org/2000/svg}svg"
    for told in ("What &amp; how", "&lt;other&gt; &amp; co", OURS, "50 facts/s", "slope 1.00", "missed: speed"):
        assert told in picture


def drawn(
    result: Result, *, quick: bool = False
) -> tuple[list[str], list[dict[str, str]], list[list[tuple[float, float]]]]:
    """The words of a picture, its coloured and grey bars, and its lines: (across, upwards) in pixels."""
    root = ET.fromstring(draw(result, quick=quick))
    name = "{http://www.w3.org/2000/svg}"
    lines = [[(float(x), -float(y)) for x, y in (at.split(",") for at in line.attrib["points"].split())]
             for line in root.iter(f"{name}polyline")]  # fmt: skip
    bars = [bar.attrib for bar in root.iter(f"{name}rect") if bar.attrib.get("stroke") == "#333"]
    return [word.text or "" for word in root.iter(f"{name}text")], bars, lines


@pytest.mark.parametrize("power", [-0.5, 0.01, 1.0, 1.6])
def test_a_decade_is_as_long_across_as_upwards(power: float) -> None:
    points = tuple((float(size), 3 * size**power) for size in (20, 100, 7_000))
    bound, ours = drawn(result()._replace(curves=[Curve("join", "facts", "s", points, power)]))[2]
    assert (ours[-1][1] - ours[0][1]) / (ours[-1][0] - ours[0][0]) == pytest.approx(power, abs=0.01)
    assert bound[0] == ours[0]
    assert bound[-1][0] == ours[-1][0]
    work = slope([(size, size * math.log(size)) for size in (20, 7_000)])
    assert (bound[-1][1] - bound[0][1]) / (bound[-1][0] - bound[0][0]) == pytest.approx(work, abs=0.01)


def test_a_rate_is_not_held_against_n_log_n() -> None:
    curve = Curve("join", "facts", "facts/s", ((10, 1.0), (100, 10.0)), 1.0)
    assert len(drawn(result()._replace(curves=[curve]))[2]) == 1


@given(st.lists(st.text(string.ascii_letters + " ", min_size=1, max_size=120), min_size=1, max_size=5))
def test_no_word_leaves_the_picture(names: list[str]) -> None:
    rows = [Row(f"x {name}", (1.0,), 1.0) for name in names]
    root = ET.fromstring(draw(result()._replace(rows=rows, curves=[], what=names[0])))
    for text in root.iter("{http://www.w3.org/2000/svg}text"):
        at, long = float(text.attrib["x"]), 8 * len(text.text or "")
        assert at - long >= 0 if text.attrib.get("text-anchor") == "end" else at + long <= 860
    told = "".join("".join(text.text or "" for text in root.iter("{http://www.w3.org/2000/svg}text")).split())
    assert all("".join(name.split()) in told for name in names)


def test_units_do_not_share_an_axis() -> None:
    rows = [Row("idle", (60.0,), 60.0, unit="MB"), Row("a fact", (240.0,), 240.0), Row("a cell", (120.0,), 120.0)]
    _, bars, _ = drawn(result()._replace(rows=rows, unit_of_runs="B"))
    idle, fact, cell = (float(bar["width"]) for bar in bars)
    assert fact == pytest.approx(2 * cell, abs=0.2)
    assert idle > cell


def test_what_is_ours_is_coloured_and_nothing_is_squeezed() -> None:
    rows = [Row("recorded", (2.0,), 2.0, ours=True), Row("a sync", (1.0,), 1.0), Row("the bytes", (5_000.0,), 5_000.0)]
    words, bars, _ = drawn(result()._replace(rows=rows))
    assert [bar["fill"] == bars[0]["fill"] for bar in bars] == [True, False, False]
    assert float(bars[0]["width"]) > 30
    assert any("powers of ten" in word for word in words)
    assert (
        len({bar["fill"] for bar in drawn(result()._replace(rows=[row._replace(ours=False) for row in rows]))[1]}) == 1
    )


def test_sizes_are_on_the_picture() -> None:
    told = drawn(result()._replace(facts={"facts": 100_000, "runs": 5}), quick=True)[0]
    assert any("quick" in word and "facts 100,000; runs 5" in word for word in told)
    assert not any("quick" in word for word in drawn(result())[0])


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_the_slope_of_a_power_law_is_its_power(power: float) -> None:
    assert slope([(size, 3 * size**power) for size in (10, 100, 1_000)]) == pytest.approx(power)


def test_figures_have_three_digits() -> None:
    assert [figure(value) for value in (0, 0.00123456, 12.345, 1_234_567)] == ["0", "0.00123", "12.3", "1,234,567"]


def test_a_result_is_kept_as_json_and_as_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = result(Goal("speed", 5, "least", 6, "facts/s"))
    monkeypatch.setattr(frame, "RESULTS", tmp_path)
    monkeypatch.setattr(frame.importlib, "import_module", lambda _: type("made", (), {"measure": lambda _: made}))
    told = frame.one("made", Plan(), keep=True)
    assert told.goals == [(False, "made: speed: 5 facts/s, at least 6")]
    assert told.table == table(made)
    kept = json.loads((tmp_path / "made.json").read_text())
    assert kept["goals"][0]["holds"] is False
    assert kept["rows"][1]["name"] == "<other> & co"
    assert (tmp_path / "made.svg").read_text() == draw(made)


def test_names_that_are_none_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["nothing"])
    assert ended.value.code == 2
    assert "join" in capsys.readouterr().err
    assert "join" in BENCHES


def test_every_bench_is_listed_and_described() -> None:
    folder = Path(frame.__file__).parent
    measured = {path.stem for path in folder.glob("*.py") if "\ndef measure(plan: Plan) -> Result:" in path.read_text()}
    described = set(re.findall(r"^\| `(\w+)` \| \S", (folder / "README.md").read_text(), re.MULTILINE))
    assert measured == {*BENCHES} == described


def test_what_is_wrong_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def wrong(*_: object) -> frame.Told:
        raise Wrong("two and two are five")

    monkeypatch.setattr("bench.__main__.alone", wrong)
    assert main(["join", "--quick"]) == 1
    assert "wrong: join" in capsys.readouterr().out
    monkeypatch.setattr(
        "bench.__main__.alone", lambda *_: frame.Told("slow", [(False, "join: too slow")], ["join: loro"])
    )
    assert main(["join", "--quick"]) == 0
    assert capsys.readouterr().out.splitlines() == ["slow", "MISSED join: too slow", "left out: join: loro"]


def test_small_sizes_have_no_goals(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = result(Goal("speed", 5, "least", 6, "facts/s"))
    monkeypatch.setattr(frame, "RESULTS", tmp_path)
    monkeypatch.setattr(frame.importlib, "import_module", lambda _: type("made", (), {"measure": lambda _: made}))
    told = frame.one("made", Plan(quick=True), keep=True)
    assert (told.goals, "MISSED" in told.table) == ([], False)
    assert json.loads((tmp_path / "made.json").read_text())["goals"] == []
    assert "missed" not in (tmp_path / "made.svg").read_text()


def test_what_was_left_out_is_said_beside_the_table_and_at_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    made = result()._replace(left_out=["Redis"])
    monkeypatch.setattr("bench.__main__.alone", frame.one)
    monkeypatch.setattr(frame.importlib, "import_module", lambda _: type("made", (), {"measure": lambda _: made}))
    assert "left out, for it is not installed: Redis" in table(made)
    assert main(["importing"]) == 0
    captures = "left out: importing: captures of real trades (--captures)"
    assert capsys.readouterr().out.splitlines()[-2:] == [captures, "left out: importing: Redis"]
    with pytest.raises(SystemExit):
        main(["importing", "--captures", str(tmp_path)])
    (tmp_path / "binance-some.gz").touch()
    assert main(["importing", "--captures", str(tmp_path)]) == 0
    assert captures not in capsys.readouterr().out


def test_names_of_rows_never_break_the_columns() -> None:
    long = Row("a name that is longer than most names of rows are, by far", (1.0,), 1.0, 50.0, 1.0)
    made = result()
    lines = [
        line for line in table(made._replace(rows=[*made.rows, long])).splitlines() if "50" in line and ".." in line
    ]
    assert len({line.index("..") for line in lines}) == len({len(line) for line in lines}) == 1


def test_a_pipe_that_is_closed_ends_it_quietly() -> None:
    script = "import sys; from bench import __main__ as it; from bench.one import Told; it.alone = lambda *_: Told('x' * 99_999)"
    command = f"{script}; print('begun', flush=True); sys.stdin.read(); sys.exit(it.main(['join', 'heal']))"
    with subprocess.Popen(
        [sys.executable, "-c", command], **dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    ) as it:
        assert it.stdin
        assert it.stdout
        assert it.stderr
        it.stdout.readline()
        it.stdout.close()
        it.stdin.close()
        assert it.stderr.read() == b""
    assert it.returncode == 1


def test_the_documents_table_is_what_the_kept_runs_measured() -> None:
    folder = Path(__file__).parents[1] / "docs"
    runs = sorted((folder / "performance" / "runs").iterdir())
    told = (folder / "performance.md").read_text().partition(tabled.BEGINS)[2].partition(tabled.ENDS)[0]
    assert len(runs) >= 3
    assert told.strip() == tabled.tabled(runs)
    assert {json.loads(kept.read_text())["quick"] for run in runs for kept in run.iterdir()} == {False}


def keep(run: Path, goal: Goal) -> None:
    kept = {"goals": [goal._asdict() | {"holds": goal.holds}], "rows": [row._asdict() for row in result().rows]}
    (run / "join.json").write_text(json.dumps(kept))


def test_a_goal_is_told_with_what_each_run_measured(tmp_path: Path) -> None:
    runs = [tmp_path / name for name in "012"]
    for run, measured in zip(runs, (4.0, 5.0, 7.0), strict=True):
        run.mkdir()
        keep(run, Goal("speed", measured, "least", 5, "facts/s"))
    lines = tabled.tabled(runs).splitlines()
    assert lines[2] == "| join | speed | 4; 5; 7 facts/s | at least 5 | holds in 2 of 3 |"
    assert lines[-1] == "| join | <other> & co | 2; 2; 2 |"
    keep(runs[2], Goal("another", 1.0, "least", 5, "facts/s"))
    with pytest.raises(ValueError, match="not measured by the same bench"):
        tabled.tabled(runs)
