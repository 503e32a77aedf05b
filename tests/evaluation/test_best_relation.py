"""``tools/best_relation.py``, which prints numbers of docs/results.md."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).resolve().parents[2] / "tools" / "best_relation.py"
FACTS = """\
Straw\tvisit\tIraq\t2005-03-01
China\tvisit\tIraq\t2006-07-02
Bush\tvisit\tIraq\t2008-12-14
Bush\tborn in\tNew Haven\t
New Haven\tin\tConnecticut\t
"""
QUESTIONS = [
    ("Who visited Iraq in 2006?", ["Iraq"], ["China"]),  # 1
    ("When did Bush visit Iraq?", ["Bush", "Iraq"], ["2008-12-14"]),  # 1
    ("Who visited Iraq?", ["Iraq"], ["Bush"]),  # one of three: 2 / (3 + 1)
    ("Which state was Bush born in?", ["Bush"], ["Connecticut"]),  # two hops: 0
]


def test_it_prints_what_the_best_relation_gives(tmp_path: Path) -> None:
    graph, questions = tmp_path / "facts.tsv", tmp_path / "questions.jsonl"
    graph.write_text(FACTS)
    rows = [
        {"id": str(number), "question": text, "topic_entities": topics, "answers": answers, "split": "test"}
        for number, (text, topics, answers) in enumerate(QUESTIONS)
    ]
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [sys.executable, str(TOOL), "--graph", str(graph), "--questions", str(questions)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("4 questions, F1 (macro) of the best relation: 62.5 % [")
    lost = subprocess.run([*command, "--graph", str(tmp_path / "lost")], capture_output=True, text=True, check=False)
    assert lost.returncode == 1
    assert lost.stderr.startswith("There is no graph at")
