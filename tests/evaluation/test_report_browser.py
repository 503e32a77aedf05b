"""The report in a real browser, opened from disk: no script but its own runs, and the example browser works."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from report_runs import HOSTILE, hostile_runs

from kgr1.evaluation.page import build_page
from kgr1.evaluation.runs import Run

sync_api = pytest.importorskip("playwright.sync_api")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium: the one that KGR1_CHROMIUM names, the system's, or playwright's own."""
    found = os.environ.get("KGR1_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    with sync_api.sync_playwright() as playwright:
        if not found and not Path(playwright.chromium.executable_path).exists():
            pytest.skip("needs a Chromium: install one, or name it in KGR1_CHROMIUM")
        # Root cannot use the sandbox, and the page is our own.
        started = playwright.chromium.launch(executable_path=found or None, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def page(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """The hostile report, opened as a file; fails on anything that the browser complains about or asks for."""
    runs = [Run.of(e, system=name, dataset=HOSTILE[2], examples=50) for name, e in hostile_runs(30).items()]
    path = tmp_path / "report.html"
    path.write_text(build_page(HOSTILE[0], runs, notes=[HOSTILE[1]]), "utf-8")
    opened = browser.new_page(viewport={"width": 1200, "height": 800})
    complaints: list[str] = []
    requests: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("request", lambda request: requests.append(request.url))
    opened.goto(path.as_uri())
    yield opened
    assert complaints == []
    assert requests == [path.as_uri()]
    opened.close()


def test_nothing_hostile_runs(page: Any) -> None:
    page.locator(".example").first.wait_for()
    for example in page.locator(".example > summary").all()[:8]:
        example.click()
    sync_api.expect(page.locator(".turn")).to_have_count(3 * 8)  # drawn when the browser tells that one was opened
    assert page.evaluate("window.hacked") is None
    assert page.locator("img").count() == 0
    assert page.title() == HOSTILE[0]
    assert page.locator(".picture svg").count() >= 6
    assert "\u202e" not in page.inner_text("body")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_the_example_browser(page: Any) -> None:
    count = page.locator("#count")
    assert count.inner_text() == "60 of 60 episodes"
    assert page.locator(".example").count() == 25
    page.locator("#more").click()
    page.locator("#more").click()
    assert page.locator(".example").count() == 60
    assert page.locator("#more").is_hidden()
    page.locator("#search").fill('onerror="window.hacked')
    found = page.locator(".example").count()
    assert 0 < found < 60
    page.locator("#search").fill("")
    page.locator("#system").select_option("plain")
    assert count.inner_text() == "30 of 60 episodes"
    page.locator("#cause").select_option("right")
    assert set(page.locator(".example .badge:first-child").all_inner_texts()) == {"right"}
    page.locator("#search").fill("no such words anywhere")
    assert count.inner_text() == "0 of 60 episodes"
    page.locator("#search").fill("東京")
    first = page.locator(".example").first
    first.locator("summary").click()
    first.locator("dd").first.wait_for()  # a browser tells a little later that one was opened
    assert "東京" in first.inner_text()
    assert first.locator("dd").first.inner_text() == "plain"


def test_tables_hold_the_numbers(page: Any) -> None:
    headline = page.locator("section#d1 table").first
    assert headline.locator("tbody tr").count() == 2
    assert headline.locator("tbody th").nth(1).inner_text() == HOSTILE[1]
    assert headline.locator("thead th").nth(2).inner_text() == "F1 (macro)"
    assert page.locator(".notes li").inner_text() == HOSTILE[1]
