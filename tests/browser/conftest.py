"""Headless system Chromium, driven by Playwright; `make test-cloud` installs it (target `browser`)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

WAIT_MS = 120_000
WIDE, NARROW = 1280, 420


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One browser for the session; each test opens pages of its own."""
    path = shutil.which("chromium")
    if not path:
        pytest.fail("Chromium is not installed: run `make browser` as root, or apt-get install chromium")
    with sync_playwright() as playwright:
        # Chromium's sandbox needs rights that containers withhold; it opens nothing but our own page.
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()
