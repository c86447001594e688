"""The console as a browser shows it, wide and narrow: headless system Chromium, driven by Playwright."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import NARROW, WAIT_MS, WIDE

if TYPE_CHECKING:
    from tests.support.laptop import Laptop

A_LINE = re.compile(r"^M[\d.]+,[\d.]+")


@pytest.fixture(params=[WIDE, NARROW])
def page(request: pytest.FixtureRequest, browser: Browser, laptop: Laptop) -> Iterator[Page]:
    """The console, open; a test fails if the page has complained about anything by its end."""
    page = browser.new_page(viewport={"width": request.param, "height": 900})
    page.set_default_timeout(WAIT_MS)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(f"http://127.0.0.1:{laptop.port}/_evergreen/console")
    yield page
    page.close()
    assert complaints == []


def test_the_endpoint_and_the_stacks_are_shown(page: Page, laptop: Laptop) -> None:
    endpoint = page.locator("#endpoint")
    expect(endpoint).to_contain_text(laptop.outputs["endpoint_name"], timeout=WAIT_MS)
    expect(endpoint).to_contain_text("InService", timeout=WAIT_MS)
    expect(endpoint).to_contain_text("100 %", timeout=WAIT_MS)
    expect(page.locator("#stacks")).to_contain_text("monitoring", timeout=WAIT_MS)


def test_the_playground_answers_a_message(page: Page) -> None:
    expect(page.locator("#where")).to_contain_text("http", timeout=WAIT_MS)
    page.fill("#prompt", "Hello there")
    page.click("#ask button")
    expect(page.locator("#answers .model")).not_to_be_empty(timeout=WAIT_MS)
    expect(page.locator("#ask button")).to_be_enabled(timeout=WAIT_MS)
    assert page.locator("#answers .error").count() == 0


def test_the_deployed_dashboard_is_drawn_with_lines(page: Page, laptop: Laptop) -> None:
    laptop.openai().chat.completions.create(
        model=laptop.model, messages=[{"role": "user", "content": "Hello"}], max_tokens=4
    )
    requests = page.locator(".widget", has_text="Requests by variant")
    expect(requests.locator("svg path").first).to_have_attribute("d", A_LINE, timeout=WAIT_MS)
    expect(page.locator(".widget", has_text="Time to first token")).to_contain_text("goal", timeout=WAIT_MS)
    alarms = page.locator(".widget", has_text="Alarms").first
    expect(alarms.locator(".pill")).to_have_count(8, timeout=WAIT_MS)


def test_nothing_is_wider_than_the_window(page: Page) -> None:
    expect(page.locator(".widget").first).to_be_visible(timeout=WAIT_MS)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
