"""A real Chromium for the report: Debian's (or any); CODESIGN_CHROMIUM names it, else the first `chromium` on the path."""

import os
import shutil

import pytest
from reading import N_ROWS
from synthetic import payload

from codesign.report import write
from codesign.report.html import _plain

CHROMIUM = os.environ.get("CODESIGN_CHROMIUM") or shutil.which("chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM:
        pytest.skip("no Chromium: set CODESIGN_CHROMIUM or install chromium")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def data():
    return _plain(payload(N_ROWS))


@pytest.fixture(scope="module")
def url(folder, data):
    return write(data, folder / "report.html").as_uri()


@pytest.fixture(scope="module")
def tabs(browser):
    """New offline tabs that write down every console error, page error and request that is not for a file."""
    context = browser.new_context(offline=True)
    complaints: list[str] = []

    def note(text, wanted):
        if wanted:
            complaints.append(text)

    def new_tab():
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda said: note(said.text, said.type in ("error", "warning")))
        page.on("pageerror", lambda error: note(str(error), True))
        page.on(
            "request",
            lambda sent: note(sent.url, not sent.url.startswith(("file:", "blob:", "data:", "about:"))),
        )
        return page

    new_tab.complaints, new_tab.idle = complaints, []
    return new_tab


@pytest.fixture
def visit(tabs):
    """Open an address; the page must stay silent and ask for nothing but files. Tabs are used again."""
    used = []

    def open_page(address, width=1240, scheme="light", ready=True):
        page = tabs.idle.pop() if tabs.idle else tabs()
        used.append(page)
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        page.goto(address)
        assert not ready or page.evaluate("document.documentElement.dataset.ready"), "the page did not finish drawing"
        return page

    open_page.complaints = tabs.complaints
    yield open_page
    for page in used:
        page.goto("about:blank")
    tabs.idle.extend(used)
    found, tabs.complaints[:] = list(tabs.complaints), []
    assert found == []


@pytest.fixture
def page(visit, url):
    return visit(url)
