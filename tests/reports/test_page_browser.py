"""The page in headless Chromium: closed, within its window, usable; with texts that try to be more than texts."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from redundancy_eval.answers import Asked
from redundancy_eval.reports import page
from redundancy_eval.reports.model import Other
from redundancy_eval.reports.page import drill
from tests.reports.made_up import ENCODERS, changed, subject, table, with_stand_ins
from tests.reports.test_page import MadeUp

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium (apt-get install chromium)"),
    pytest.mark.slow,
]
_NEAR = Path(__file__).parents[2] / "node_modules" / "axe-core" / "axe.min.js"
AXE = Path(os.environ.get("AXE_CORE", _NEAR))  # npm install axe-core

HOSTILE = (
    "<script>window.pwned=1</script>", "</script><script>window.pwned=2</script>",
    '"><img src=x onerror="window.pwned=3">', "{{ 7*7 }}{% raw %}", "</style><style>body{display:none}</style>",
    "javascript:alert(1)", "<!--", "]]>", "&lt;b&gt;", "\u202egnp.exe", "<svg onload=window.pwned=4>",
    "' onmouseover='window.pwned=5", "a\x00b\x1b[31m\ud800", "<iframe srcdoc='<script>parent.pwned=6</script>'>",
    "<meta http-equiv=refresh content='0;url=https://example.org'>", "<base href=https://example.org>",
    "<link rel=stylesheet href=https://example.org/x.css>", "\u200b" * 5, "W" * 5000,
    "<form action=https://example.org><input autofocus onfocus=window.pwned=7>", "e" + "\u0301" * 300, "\u0645" * 400,
    "\n" * 200 + "x", "word " * 250_000,
)  # fmt: skip
FOREIGN = "iframe, link, object, embed, base, form, [style], img:not([src^='data:'])"
OUTSIDE = """() => [...document.querySelectorAll('main :is(p, li, dd, summary, article, h2, pre)')]
    .filter(e => !e.closest('.scroll') && e.getBoundingClientRect().right > innerWidth + 1).length"""
PUT_IN = """() => {
    const script = document.createElement('script');
    script.textContent = 'window.pwned = 9';
    const image = new Image();
    image.onload = () => { window.pwned = 10; };
    image.src = 'https://example.org/x.png';
    document.body.append(script, image);
}"""


class Hostile:
    """Every field holds each text in turn."""

    def asked(self, benchmark, documents):
        masks = [(), *((name,) for name in ENCODERS)]
        return {
            document: Asked(text, text, {mask: text for mask in masks})
            for document, text in zip(documents, HOSTILE * len(documents), strict=False)
        }

    def picture(self, benchmark, document):
        return b"<svg xmlns='http://www.w3.org/2000/svg' onload='window.pwned=8'/>"


@pytest.fixture(scope="module")
def chromium():
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Pages of one model, of one with stand-ins, of three, and of hostile texts."""
    folder, four = tmp_path_factory.mktemp("pages"), subject(documents=60)
    others = [
        subject("B", encoders=("siglip", "clip"), documents=30, seed=1),
        subject("C", encoders=("mine", "sam"), documents=30),
    ]
    page.write([four], folder / "one.html", {four.name: drill.sample(four, MadeUp())})
    needs = with_stand_ins(four)
    needs = replace(needs, model=needs.model.with_retrained([Other("r", ENCODERS[:3], table(documents=30, seed=4))]))
    page.write([needs], folder / "needs.html", {four.name: drill.sample(four, MadeUp())})
    page.write([four, *others], folder / "three.html", {four.name: drill.sample(four, MadeUp())})
    bad = [hostile(text, number) for number, text in enumerate(HOSTILE)]
    bad = [with_stand_ins(each) if number % 2 else each for number, each in enumerate(bad)]
    page.write(bad[:1], folder / "hostile.html", {bad[0].name: drill.sample(bad[0], Hostile(), most=20)})
    page.write(bad, folder / "hostile-all.html")
    return folder


def hostile(text, number):
    """A model whose own names are hostile."""
    category = f"G{text}".encode(errors="replace").decode()  # seeds are made of it
    made = subject(
        documents=20, encoders=ENCODERS[:2], categories=(category, "K"), notes=(text, f"warning (x): {text}")
    )
    signed = replace(made.table, signature=text)
    cells = tuple(replace(cell, cur=replace(cell.cur, reason=text, note=text)) for cell in made.analysis.cells)
    return changed(
        made, name=f"{number}{text}", table=signed, analysis=replace(made.analysis, cells=cells),
        costs=replace(made.costs, columns={text: [1.0, 0.9, 0.8, 0.7]}, note=text),
    )  # fmt: skip


def opened(browser, path, width=1280, scheme="light", scripts=True):
    """A page in a window, and what it did that it must not do."""
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=scripts
    )
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    tab, wrong = context.new_page(), []
    tab.on("request", lambda r: wrong.append(r.url) if not r.url.startswith(("data:", path.as_uri())) else None)
    tab.on("console", lambda message: wrong.append(message.text))
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
    tab.goto(path.as_uri())
    return tab, wrong


def overflow(tab):
    return tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


@pytest.mark.parametrize("name", ["one", "needs", "three", "hostile", "hostile-all"])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_closed_and_within_its_window(chromium, made, name, width, scheme):
    tab, wrong = opened(chromium, made / f"{name}.html", width, scheme)
    tab.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    if tab.query_selector("#model"):
        tab.select_option("#model", "")
    tab.mouse.move(200, 300)
    tab.wait_for_timeout(100)
    assert wrong == [] and overflow(tab) <= 0
    assert tab.evaluate("window.pwned ?? null") is None
    assert tab.evaluate("document.scripts.length") == 1
    assert tab.evaluate("selector => document.querySelectorAll(selector).length", FOREIGN) == 0
    # Each piece of text ends within the window, but for tables, which scroll by themselves.
    outside = tab.evaluate(OUTSIDE)
    assert outside == 0
    dark = tab.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark is (scheme == "dark")
    tab.context.close()


def test_the_policy_refuses_what_is_put_in_later(chromium, made):
    tab, _ = opened(chromium, made / "hostile.html")
    tab.evaluate(PUT_IN)
    tab.wait_for_timeout(100)
    assert tab.evaluate("window.pwned ?? null") is None
    tab.context.close()


def test_tables_sort_and_filter_and_examples_too(chromium, made):
    tab, wrong = opened(chromium, made / "one.html")
    column = "#m0-masks th:has-text('OCR') button"
    values = "[...document.querySelectorAll('#m0-masks tbody tr:not([hidden])')].map(r => Number(r.cells[5].dataset.v))"
    tab.click(column)
    found = tab.evaluate(values)
    assert found == sorted(found, reverse=True) and len(found) == 16
    assert tab.get_attribute("#m0-masks th:has-text('OCR')", "aria-sort") == "descending"
    tab.click(column)
    assert tab.evaluate(values) == sorted(found)
    tab.focus("#m0-masks thead button")
    tab.keyboard.press("Enter")
    assert tab.get_attribute("#m0-masks thead th", "aria-sort") == "ascending"
    tab.select_option("[data-filters='#m0-masks tbody tr'] select[name=keeps]", "e0")
    tab.select_option("[data-filters='#m0-masks tbody tr'] select[name=size]", "1")
    assert len(tab.evaluate(values)) == 1
    assert tab.inner_text("[data-filters='#m0-masks tbody tr'] output") == "1 of 1 shown"
    shown = "document.querySelectorAll('.example:not([hidden])').length"
    assert tab.evaluate(shown) == 12
    tab.click("[data-more]")
    assert tab.evaluate(shown) == 24
    tab.select_option("[data-filters='#m0 .example'] select[name=kind]", "gained")
    kinds = tab.evaluate("[...document.querySelectorAll('.example:not([hidden])')].map(e => e.dataset.kind)")
    assert kinds and all("gained" in kind for kind in kinds)
    assert wrong == []
    tab.context.close()


def test_tables_are_copied_as_they_are(chromium, made):
    tab, _ = opened(chromium, made / "one.html")
    tab.click("[data-copy=m0-cur-cur]")
    tab.wait_for_function("document.querySelector('[data-copy=m0-cur-cur]').textContent !== 'Copy table'")
    if tab.inner_text("[data-copy=m0-cur-cur]") == "Copied":
        lines = tab.evaluate("navigator.clipboard.readText()").splitlines()
        assert len(lines) == 5 and all(len(line.split("\t")) == 8 for line in lines)
        assert float(lines[1].split("\t")[2]) > 0
    else:
        assert "Overall" in tab.evaluate("getSelection().toString()")
    tab.context.close()


def test_the_other_kinds_of_loss_and_the_theme(chromium, made):
    tab, _ = opened(chromium, made / "one.html")
    assert tab.is_visible("#m0-cur-cur") and not tab.is_visible("#m0-cur-points")
    tab.check(".k2")
    assert tab.is_visible("#m0-cur-points") and not tab.is_visible("#m0-cur-cur")
    tab.click("#theme")
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    tab.context.close()


def test_of_several_models_one_is_shown_and_links_lead_to_the_others(chromium, made):
    tab, _ = opened(chromium, made / "three.html")
    shown = "[...document.querySelectorAll('.model:not([hidden])')].map(m => m.id)"
    assert tab.evaluate(shown) == ["m0"] and tab.is_visible("#comparison")
    tab.click("#comparison a[href='#m2']")
    tab.wait_for_function("!document.getElementById('m2').hidden")
    assert tab.evaluate(shown) == ["m2"]
    tab.select_option("#model", "")
    assert tab.evaluate(shown) == ["m0", "m1", "m2"]
    tab.context.close()


def test_without_scripts_everything_is_there(chromium, made):
    tab, _ = opened(chromium, made / "one.html", scripts=False)
    assert tab.locator(".example").count() == tab.locator(".example:visible").count() > 12
    assert not tab.is_visible("#theme") and tab.is_visible("#m0-masks")
    tab.check(".k3")
    assert tab.is_visible("#m0-cur-floor")
    tab.context.close()


def test_it_prints_on_white_without_controls(chromium, made):
    tab, _ = opened(chromium, made / "one.html", width=720, scheme="dark")
    tab.emulate_media(media="print")
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") in ("rgb(255, 255, 255)", "rgba(0, 0, 0, 0)")
    assert tab.locator("button:visible").count() == tab.locator("th button:visible").count()
    assert len(tab.pdf(format="A4")) > 10_000
    tab.context.close()


@pytest.mark.parametrize("name", ["one", "needs", "three"])
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
@pytest.mark.skipif(not AXE.is_file(), reason="axe-core is not there (npm install axe-core, or AXE_CORE=axe.min.js)")
def test_axe_finds_nothing(chromium, made, name, width, scheme):
    tab, _ = opened(chromium, made / f"{name}.html", width, scheme)
    tab.context.new_cdp_session(tab).send("Page.setBypassCSP", {"enabled": True})
    tab.reload()
    tab.evaluate(AXE.read_text(encoding="utf-8"))
    found = tab.evaluate("axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'best-practice']})")["violations"]
    assert [(each["impact"], each["id"], each["nodes"][0]["html"][:100]) for each in found] == []
    tab.context.close()


def test_the_largest_page_is_small_and_quick(chromium, tmp_path):
    """32 masks, 15 benchmarks, examples with photographs: at most 3 MB."""
    big = subject(encoders=ENCODERS[:5], documents=200, per_category=3)

    class Photographs(MadeUp):
        def picture(self, benchmark, document):
            return noise

    noise = photograph()
    sample = drill.sample(big, Photographs("word " * 60))
    path = page.write([big], tmp_path / "report.html", {big.name: sample})
    assert path.stat().st_size < 3_000_000 and len(sample.examples) > 100
    tab, wrong = opened(chromium, path)
    assert wrong == [] and overflow(tab) <= 0
    tab.context.close()


def photograph():
    """Something that compresses as badly as a photograph."""
    import io

    from PIL import Image

    small = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(small).resize((400, 400)).save(buffer, "png")
    return buffer.getvalue()
