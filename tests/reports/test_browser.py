"""The page and the case viewer in a browser: quiet, offline, sortable, and of the reader's width."""

from dataclasses import replace

import pandas as pd
import pytest

from reports import build, facts, html, tables, viewer
from tests.reports import browser, seen
from tests.results import fake

pytestmark = pytest.mark.skipif(bool(browser.MISSING), reason=browser.MISSING)
READY = "document.getElementById('status').textContent.includes('apart')"
PIXELS = "return document.getElementById(arguments[0]).toDataURL()"
DOWN, RIGHT, ENTER, TAB = "\ue015", "\ue014", "\ue007", "\ue004"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The report of a run with images, two tasks, every control, and a failure."""
    folder = tmp_path_factory.mktemp("seen")
    seen.write_run(folder, tasks=2, arms=seen.ALL_ARMS, cases=2, size=(20, 24, 10))
    failed = fake.failure(fake.spec("Task01_Fake", "mistral", "random"), fake.task(), "RuntimeError: 1 < 2")
    fake.store.write(folder, failed)
    return build.write_report(folder, command="python -m bench run --backbones llama3")


@pytest.fixture(scope="module")
def window(tmp_path_factory):
    with browser.browser(tmp_path_factory.mktemp("profile") / "it") as opened:
        yield opened


@pytest.fixture
def viewing(window, page):
    """The window with the viewer open, on a laptop."""
    window.size(1366, 860)
    window.open(page.parent / "viewer.html")
    window.wait(READY)
    return window


def column(window, table, name):
    """The texts of a column, by group of rows."""
    return window.run(
        "const table = document.querySelector(`table[data-name=${arguments[0]}]`);"
        "const at = [...table.tHead.rows[0].cells].findIndex((cell) => cell.textContent === arguments[1]);"
        "return [...table.tBodies].map((body) => [...body.rows].filter((row) => !row.classList.contains('group'))"
        ".map((row) => row.cells[at].firstChild.textContent.trim()))",
        table,
        name,
    )


def click_head(window, table, name):
    """Click a column's name; what the column now says of its order."""
    return window.run(
        "const heads = [...document.querySelectorAll(`table[data-name=${arguments[0]}] thead th`)];"
        "const head = heads.find((cell) => cell.textContent === arguments[1]);"
        "head.querySelector('button').click(); return head.getAttribute('aria-sort')",
        table,
        name,
    )


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("name", ["index.html", "viewer.html"])
def test_opens_without_a_complaint_and_without_a_request(window, page, name, dark):
    window.size(1366, 860, dark)
    window.complaints()
    window.requests()
    window.open(page.parent / name)
    if name == "viewer.html":
        window.wait(READY)
    assert window.complaints() == []
    assert window.requests() == [(page.parent / name).resolve().as_uri()]
    assert window.run("return performance.getEntriesByType('resource').map((e) => e.name)") == []
    colour = window.run("return getComputedStyle(document.body).backgroundColor")
    assert (colour == "rgb(255, 255, 255)") is not dark


def test_the_page_may_run_no_other_script(window, page):
    window.open(page)
    window.run("const s = document.createElement('script'); s.textContent = 'window.ran = 1'; document.body.append(s)")
    assert window.run("return window.ran") is None
    assert any("Content Security Policy" in line for line in window.complaints())


def test_numbers_sort_by_value_within_their_groups(window, page):
    window.open(page)
    before = column(window, "by_task", "Dice")
    assert click_head(window, "by_task", "Dice") == "descending"
    after = column(window, "by_task", "Dice")
    assert len(after) == len(before) == 2
    for old, new in zip(before, after, strict=True):
        values = [float(text.split()[0]) for text in new if text != "–"]
        assert values == sorted(values, reverse=True) and sorted(old) == sorted(new) and old != new
    assert after[0][-1] == "–"  # the failed arm is last in either direction
    assert click_head(window, "by_task", "Dice") == "ascending"
    assert column(window, "by_task", "Dice")[0][-1] == "–"
    assert click_head(window, "by_task", "Dice") == "none"
    assert column(window, "by_task", "Dice") == before


def test_thousands_signs_and_arms_sort_as_they_read(window, tmp_path):
    texts = ["1,234", "−0.5", "–", "900–1,000", "12 of 14"]
    frame = pd.DataFrame({"Arm": ["none", "z", "a (twin)", "m", "b"], "Number": texts})
    table = tables.plain("cost", "Cost.", frame, ["Number"])
    told = html.Page(facts.Facts("t", "", (), {}, 1, 1, 0, 1), table, {"cost": table}, [], [], "x")
    (tmp_path / "index.html").write_text(html.render(told))
    window.open(tmp_path / "index.html")
    click_head(window, "cost", "Number")
    assert column(window, "cost", "Number") == [["1,234", "900–1,000", "12 of 14", "−0.5", "–"]]
    click_head(window, "cost", "Arm")
    assert column(window, "cost", "Arm") == [["none", "z", "a (twin)", "m", "b"]]  # reading order, not the alphabet's
    click_head(window, "cost", "Arm")
    assert column(window, "cost", "Arm") == [["b", "m", "a (twin)", "z", "none"]]


def test_a_header_is_reached_and_pressed_by_key(window, page):
    window.open(page)
    window.keys("table[data-name=by_task] thead th:nth-child(2) button", ENTER)
    head = "document.querySelector('table[data-name=by_task] thead th:nth-child(2)')"
    assert window.run(f"return {head}.getAttribute('aria-sort')") == "descending"
    window.keys("table[data-name=by_task] thead th:nth-child(2) button", TAB)
    assert window.run("return document.activeElement.parentElement.cellIndex") == 2


def test_an_interval_is_shown_at_the_pointer_and_by_a_button(window, tmp_path):
    table = tables.plain("cost", "Cost.", pd.DataFrame({"Arm": ["a"], "Dice": ["0.5"]}), ["Dice"])
    cells = (table.groups[0].rows[0][0], tables.Cell("0.5", hover="95% interval 0.4 to 0.6"))
    table = replace(table, groups=(tables.Group("", (cells,)),))
    told = html.Page(facts.Facts("t", "", (), {}, 1, 1, 0, 1), table, {"cost": table}, [], [], "x")
    (tmp_path / "index.html").write_text(html.render(told))
    window.open(tmp_path / "index.html")
    bubble = "const b = document.querySelector('.bubble'); return b.hidden ? '' : b.textContent"
    assert window.run(bubble) == ""
    window.run(
        "document.querySelector('td[data-hover]').dispatchEvent(new PointerEvent('pointerover', { bubbles: true }))"
    )
    assert window.run(bubble) == "95% interval 0.4 to 0.6"
    window.keys("button.intervals", ENTER)
    written = "return getComputedStyle(document.querySelector('td[data-hover]'), '::after').content"
    assert window.run(written) == '"95% interval 0.4 to 0.6"'


@pytest.mark.parametrize("name", ["index.html", "viewer.html"])
def test_on_a_phone_nothing_but_tables_and_figures_scrolls_sideways(window, page, name):
    window.size(390, 844)
    window.open(page.parent / name)
    if name == "viewer.html":
        window.wait(READY)
    window.run("document.querySelectorAll('details').forEach((one) => { one.open = true })")
    assert window.run("return document.documentElement.scrollWidth") == 390
    out = "[...document.querySelectorAll('body *')].filter((e) => e.getBoundingClientRect().right > innerWidth + 1)"
    assert window.run(f"return {out}.filter((e) => !e.closest('.scroll')).map((e) => e.outerHTML.slice(0, 80))") == []
    assert window.run("return document.querySelector('h1').getBoundingClientRect().right <= innerWidth")


def test_on_paper_nothing_is_folded_away(window, page):
    window.open(page)
    folded = "return document.querySelectorAll('details:not([open])').length"
    before = window.run(folded)
    window.run("dispatchEvent(new Event('beforeprint'))")
    assert before >= 2 and window.run(folded) == 0
    window.run("dispatchEvent(new Event('afterprint'))")
    assert window.run(folded) == before


def test_the_page_leads_to_the_viewer_and_back(window, page):
    window.open(page)
    window.run("document.querySelector('.viewer a').click()")
    window.wait("location.pathname.endsWith('viewer.html') && document.getElementById('facts')")
    window.run("document.querySelector('.back a').click()")
    window.wait("location.pathname.endsWith('index.html') && location.hash === '#cases'")


def test_the_viewer_switches_tasks_and_cases(viewing):
    listed = "return [...document.getElementById('case').options].map((option) => option.textContent)"
    every = viewing.run(listed)
    spreads = [float(text.split(" · ")[0]) for text in every]
    assert len(every) == 4 and spreads == sorted(spreads, reverse=True)
    first, told = viewing.run(PIXELS, "canvas-axial"), "return document.getElementById('status').textContent"
    before = viewing.run(told)
    viewing.keys("#next", ENTER)
    viewing.wait(f"{READY} && document.getElementById('status').textContent !== {before!r}")
    assert viewing.run(PIXELS, "canvas-axial") != first
    viewing.run(
        "const t = document.getElementById('task'); t.value = 'Task02_Fake'; t.dispatchEvent(new Event('change'))"
    )
    viewing.wait(f"{READY} && document.getElementById('status').textContent.includes('Task02_Fake')")
    assert len(viewing.run(listed)) == 2


def test_slices_change_by_key_slider_wheel_and_click(viewing):
    at = "return document.getElementById('slice-' + arguments[0]).textContent"
    start = viewing.run(at, "axial")
    picture = viewing.run(PIXELS, "canvas-axial")
    viewing.keys("#canvas-axial", RIGHT)
    assert viewing.run(at, "axial") == f"{int(start.split()[0]) + 1} of 10"
    assert viewing.run(PIXELS, "canvas-axial") != picture
    viewing.run("const s = document.getElementById('slider-coronal'); s.value = 3; s.dispatchEvent(new Event('input'))")
    assert viewing.run(at, "coronal") == "4 of 24"
    viewing.wheel("#canvas-coronal", down=100)
    viewing.wait("document.getElementById('slice-coronal').textContent === '1 of 24'")
    viewing.run(
        "const c = document.getElementById('canvas-axial'), b = c.getBoundingClientRect();"
        "const where = { clientX: b.left + 1, clientY: b.top + b.height / 2, bubbles: true };"
        "c.dispatchEvent(new MouseEvent('click', where))"
    )
    assert viewing.run(at, "sagittal") == "1 of 20"


def test_planes_masks_and_arms_go_on_and_off(viewing):
    seen_ = "return [...document.querySelectorAll('.plane')].filter((p) => p.offsetHeight).map((p) => p.id)"
    assert len(viewing.run(seen_)) == 3
    viewing.run("document.querySelector('#plane-choice button[value=coronal]').click()")
    assert viewing.run(seen_) == ["plane-coronal"]
    viewing.run("document.querySelector('#plane-choice button[value=all]').click()")
    pictures = [viewing.run(PIXELS, "canvas-axial")]
    for press in ("#reference", "#none", "#arms li:nth-child(2) input", "#arms li:nth-child(4) button", "#all"):
        viewing.run("document.querySelector(arguments[0]).click()", press)
        pictures.append(viewing.run(PIXELS, "canvas-axial"))
    on = "return [...document.querySelectorAll('#arms input')].filter((box) => box.checked).length"
    assert viewing.run(on) == len(seen.ALL_ARMS)
    assert len(set(pictures)) >= 4 and pictures[0] != pictures[1] != pictures[2]
    assert viewing.complaints() == []


def test_colours_say_labels(viewing):
    marks = viewing.run("return [...document.querySelectorAll('#labels .mark')].map((m) => m.style.background)")
    assert marks == ["rgb(230, 159, 0)", "rgb(86, 180, 233)"]


def test_a_browser_that_cannot_unpack_is_told_so(window, page):
    hidden = "delete window.DecompressionStream"
    made = window.command("Page.addScriptToEvaluateOnNewDocument", source=hidden)
    try:
        window.open(page.parent / "viewer.html")
        window.wait("document.getElementById('status').textContent.includes('cannot unpack')")
        assert window.run("return getComputedStyle(document.querySelector('.desk')).display") == "none"
    finally:
        window.command("Page.removeScriptToEvaluateOnNewDocument", identifier=made["identifier"])


def test_a_damaged_case_is_told_and_the_others_stay(window, page, tmp_path):
    source = (page.parent / "viewer.html").read_text()
    assert viewer.MOST_CASES > 3
    start = source.index('id="case-0">') + len('id="case-0">')
    (tmp_path / "viewer.html").write_text(source[:start] + "AAAA" + source[start + 4 :])
    window.open(tmp_path / "viewer.html")
    window.wait("document.getElementById('status').textContent.includes('cannot be shown')")
    window.keys("#next", ENTER)
    window.wait(READY)
