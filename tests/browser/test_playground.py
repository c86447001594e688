"""The playground as a browser shows it, served by the deployed door: key in, streamed answer out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import NARROW, WAIT_MS, WIDE

if TYPE_CHECKING:
    from tests.support.laptop import Laptop


@pytest.fixture(params=[WIDE, NARROW])
def page(
    request: pytest.FixtureRequest,
    browser: Browser,
    laptop: Laptop,
) -> Iterator[Page]:
    """The playground, open; a test fails if the page breaks its own policy or any script by its end."""
    page = browser.new_page(viewport={"width": request.param, "height": 900})
    page.set_default_timeout(WAIT_MS)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "console",
        lambda said: complaints.append(said.text) if "Content Security Policy" in said.text else None,
    )
    page.goto(laptop.api_url.removesuffix("/v1") + "/playground")
    yield page
    page.close()
    assert complaints == []


def enter(page: Page, key: str) -> None:
    page.fill("#key", key)
    page.press("#key", "Enter")


def ask(page: Page, laptop: Laptop, text: str) -> None:
    """Asks with the right key and waits for the end of the answer."""
    enter(page, laptop.outputs["api_key"])
    expect(page.locator("#state")).to_have_text("connected", timeout=WAIT_MS)
    page.evaluate("document.getElementById('more').open = true")
    page.fill("#tokens", "12")
    page.fill("#prompt", text)
    page.press("#prompt", "Enter")
    expect(page.locator("article.assistant .facts")).to_be_visible(timeout=WAIT_MS)


def test_a_key_opens_it_and_an_answer_is_streamed_with_its_facts(page: Page, laptop: Laptop) -> None:
    expect(page.locator("#send")).to_be_disabled()
    ask(page, laptop, "What is an evergreen tree?")
    expect(page.locator("#model")).to_have_value(laptop.model)
    expect(page.locator("article.user .text")).to_have_text("What is an evergreen tree?")
    expect(page.locator("article.assistant .text")).not_to_be_empty()
    facts = page.locator("article.assistant .facts")
    expect(facts).to_contain_text("champion")
    expect(facts).to_contain_text(re.compile(r"first token \d+ ms"))
    expect(facts).to_contain_text(re.compile(r"tokens \d+ → \d+"))
    expect(page.locator("#m-requests")).to_have_text(re.compile(r"\d"), timeout=WAIT_MS)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_an_answer_is_rated(page: Page, laptop: Laptop) -> None:
    ask(page, laptop, "Hello")
    good = page.get_by_role("button", name="Good answer")
    # The record that feedback is tied to is written after the answer has ended.
    for _ in range(20):
        expect(good).to_be_enabled()
        good.click()
        expect(
            page.locator(".rate[disabled][aria-pressed=true], .rate:not([disabled])").first
        ).to_be_visible()
        if good.get_attribute("aria-pressed") == "true":
            break
        page.wait_for_timeout(250)
    expect(good).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("button", name="Bad answer")).to_be_disabled()


def test_a_wrong_key_is_told_so(page: Page) -> None:
    enter(page, "eg-wrong")
    expect(page.locator("#state")).to_contain_text("key is missing or not valid", timeout=WAIT_MS)
    expect(page.locator("#send")).to_be_disabled()


def test_the_key_is_forgotten_with_the_page(page: Page, laptop: Laptop) -> None:
    ask(page, laptop, "Hello")
    page.reload()
    assert page.input_value("#key") == ""
    assert page.evaluate("localStorage.length + sessionStorage.length + document.cookie.length") == 0
    expect(page.locator("article")).to_have_count(0)
