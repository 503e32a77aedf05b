"""Markdown tables."""

from __future__ import annotations

from eval_episodes import asked, played, question

from kgr1.evaluation.compare import compare
from kgr1.evaluation.metrics import summarise
from kgr1.evaluation.report import comparison_table, summary_table


def cells(table: str) -> list[list[str]]:
    """The cells of every row, split at bars that are not escaped."""
    rows = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.replace("\\|", "\0").strip("|").split("|")] for row in rows]


def test_summary_table() -> None:
    run = [
        played(question(n, hops=n % 2, kind="a|b\n| x |"), turns=[asked("Paris")] * (n % 3), sample=s, tokens=150)
        for n in range(6)
        for s in range(2)
    ]
    table = summary_table(summarise(run))
    rows = cells(table)
    overall = {row[0]: row[1:] for row in rows if len(row) == 3}
    assert overall["F1 (macro)"] == ["100.0 %", "[100.0, 100.0]"]
    assert overall["generated tokens"] == ["150", "[150, 150]"]
    assert overall["turns"][0] == "2.00"
    assert overall["pass@2"][0] == "100.0 %"
    assert {len(row) for row in rows} == {3, 8}
    assert ["1", "3"] in [row[:2] for row in rows]
    assert "a\\|b \\| x \\|" in table
    assert table.startswith("6 questions, 12 episodes; 95% bootstrap intervals")


def test_comparison_table() -> None:
    before = [played(question(n), None if n % 4 else ["Paris"], tokens=500) for n in range(40)]
    after = [played(question(n), ["Paris"], tokens=500) for n in range(39)]
    table = comparison_table(compare(before, after), "start", "end")
    rows = {row[0]: row[1:] for row in cells(table)}
    assert rows["metric"] == ["start", "end", "difference", "95% interval"]
    assert rows["F1 (macro)"][:3] == ["25.6 %", "100.0 %", "+74.4 points *"]
    assert rows["generated tokens"] == ["500", "500", "+0.00", "[+0.00, +0.00]"]
    assert rows["retrieval rate"][2] == "+0.0 points"
    assert "39 questions in both runs" in table
    assert "1 questions that only one run has are left out." in table
    worse = {row[0]: row[1:] for row in cells(comparison_table(compare(after, before)))}
    assert worse["F1 (macro)"][2] == "-74.4 points *"
    assert worse["F1 (macro)"][3].startswith("[-")
