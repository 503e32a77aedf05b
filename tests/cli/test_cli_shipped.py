"""What the README and the documentation say that the agent of the package answers, with its real weights."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cli_process import Run, environment

pytest.importorskip("torch")
pytest.importorskip("llguidance")

from kgr1.models import weights

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec(weights.WHEEL_MODULE) is None, reason=f"needs the offline weights ({weights.WHEEL_HINT})"
)

ROOT = Path(__file__).parents[2]


@pytest.fixture
def facts(tmp_path: Path) -> Path:
    """The file that the README writes."""
    command = re.search(r"^printf .*?> facts\.tsv$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert command is not None
    subprocess.run(["bash", "-c", command[0]], cwd=tmp_path, check=True)
    return tmp_path / "facts.tsv"


def test_the_readme_prints_what_is_printed(run: Run, facts: Path) -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    example = re.search(r'^\$ kgr1 ask "([^"]+)" --graph facts\.tsv\n(.*?)^```', text, re.MULTILINE | re.DOTALL)
    assert example is not None
    question, printed = example.groups()
    assert printed.strip() in run("ask", question, "--graph", facts).stdout
    born = re.search(r'^kgr1 ask "(Where [^"]+)" --graph facts\.tsv$', text, re.MULTILINE)
    assert born is not None
    assert "=> South Shields\n" in run("ask", born[1], "--graph", facts).stdout


def test_a_program_asks_as_the_documentation_says(run: Run, facts: Path, cache: Path) -> None:
    text = (ROOT / "docs" / "your-own-graph.md").read_text("utf-8")
    program = re.search(r"### In a program\n.*?```python\n(.*?)```", text, re.DOTALL)
    assert program is not None
    run("graph", "build", facts, facts.with_name("films.kg"))
    done = subprocess.run(
        [sys.executable, "-c", program[1]], cwd=facts.parent, env=environment(cache), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == [
        "('South Shields',) () ",
        "('Russell Crowe', 'Sigourney Weaver') () ",
    ]
