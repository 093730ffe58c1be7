"""The page as people use it, in a headless Chromium."""

import csv
import re
import socket
from xml.etree import ElementTree

import pytest

HOSTILE = "<script>alert(1)</script>, adam:lr=0.003"
M, NONE, SLOW = "m, adam:lr=0.003", "none, adam:lr=0.003", "none, adam:lr=0.001"
#: What tells the sections of the two protocols apart.
NARROW, WIDE = "net:width=8", "net:width=16"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def open_page(browser, page):
    """Return a function that opens the page, and checks at the end that nothing went wrong or out."""
    contexts, wrong, asked = [], [], []

    def opened(path=page, **options):
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        tab = context.new_page()
        tab.on("console", lambda message: wrong.append(message.text))
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(path.as_uri())
        return tab

    yield opened
    for context in contexts:
        context.close()
    assert wrong == []
    assert all(url.startswith(("file:", "blob:", "data:")) for url in asked)
    assert sum(url.startswith("file:") for url in asked) == len(contexts)


@pytest.fixture
def tab(open_page):
    return open_page()


def methods(tab, which=NARROW):
    section = tab.locator(".protocol", has_text=which)
    return section.locator(".expand:visible").all_text_contents()


def saved(tab, card, kind, tmp_path):
    with tab.expect_download() as started:
        card.get_by_role("button", name=re.compile(f"download as {kind}")).click()
    path = tmp_path / started.value.suggested_filename
    started.value.save_as(path)
    return path


def test_a_click_sorts_by_a_column_and_another_turns_it_around(tab):
    section = tab.locator(".protocol", has_text=NARROW)
    heading = section.get_by_role("button", name="trainability", exact=True)
    heading.click()
    assert methods(tab) == [M, SLOW, NONE, HOSTILE]
    heading.click()
    assert methods(tab) == [HOSTILE, NONE, SLOW, M]
    assert section.locator("[aria-sort]").get_attribute("aria-sort") == "ascending"
    section.get_by_role("button", name="method", exact=True).click()
    assert methods(tab) == [HOSTILE, M, SLOW, NONE]


def test_what_is_not_known_is_last_either_way(tab):
    section = tab.locator(".protocol", has_text=NARROW)
    last = tab.evaluate(
        """section => {
            section.querySelector("tbody:nth-of-type(2) td:nth-of-type(3)").dataset.v = "";
            return section.querySelector("tbody:nth-of-type(2) .expand").textContent;
        }""",
        section.element_handle(),
    )
    for _ in range(2):
        section.get_by_role("button", name="trainability", exact=True).click()
        assert methods(tab)[-1] == last


def test_the_filter_takes_words_of_rows_and_of_protocols(tab):
    tab.get_by_label("Filter").fill("NONE 0.001")
    assert (methods(tab), methods(tab, WIDE)) == ([SLOW], [])
    assert tab.locator("#count").text_content() == "1 of 5 rows"
    tab.get_by_label("Filter").fill("width=16")
    assert (methods(tab), methods(tab, WIDE)) == ([], ["none"])
    tab.get_by_label("Filter").fill("")
    tab.locator("#track").select_option("boundary-aware")
    assert (methods(tab), methods(tab, WIDE)) == ([HOSTILE], [])
    tab.get_by_label("Filter").fill("nothing like it")
    assert tab.get_by_text("No row matches.").is_visible()


def test_a_row_unfolds_to_its_command_and_runs_by_keyboard(tab):
    row = tab.get_by_role("button", name=HOSTILE, exact=True)
    row.focus()
    tab.keyboard.press("Enter")
    assert row.get_attribute("aria-expanded") == "true"
    detail = tab.locator(f"#{row.get_attribute('aria-controls')}")
    assert "lopbench run --scenario toy" in detail.locator("code").first.text_content()
    assert "</script><img src=x onerror=alert(2)> & more" in detail.text_content()
    headings = detail.locator(".runs th").all_text_contents()
    first = dict(zip(headings, detail.locator(".runs tbody tr").first.locator("td").all_text_contents(), strict=True))
    assert (first["seed"], first["outcome"], first["date"], first["device"]) == ("0", "completed", "2025-01-01", "cpu")
    assert first["record"].startswith("continual-s0-")
    tab.keyboard.press("Enter")
    assert detail.is_hidden()


def test_hostile_names_are_text_in_figures_too(tab):
    labels = tab.locator("#methods label").all_text_contents()
    assert sorted(labels) == sorted([NONE, SLOW, M, HOSTILE])
    assert tab.locator("body script").count() == 2
    assert tab.locator("img").count() == 0
    tab.get_by_label("Metric").select_option("dead_fraction")
    assert tab.locator("#layers h4").all_text_contents().count(HOSTILE) == 1


def test_there_is_a_figure_for_each_metric_and_layers_and_pairs(tab):
    headings = tab.locator("#curves h4").all_text_contents()
    assert headings == [
        "retention", "online accuracy", "heldout accuracy", "dead fraction", "duplicate fraction", "effective rank",
    ]  # fmt: skip
    assert tab.locator("#scatter figure").count() == 4
    assert tab.locator("#layers figure").count() == 4
    assert tab.locator("#rates figure").count() == 1
    tab.locator("#methods label", has_text=NONE).click()
    assert tab.locator("#layers figure").count() == 3
    tab.get_by_label("Protocol").select_option("1")
    assert tab.locator("#layers figure").count() == 1
    assert tab.locator("#rates figure").count() == 0


def test_over_learning_rates_a_method_is_one_line(tab, tmp_path):
    with saved(tab, tab.locator("#rates figure"), "CSV", tmp_path).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["method"], row["learning_rate"]) for row in rows if row["method"] == "none"] == [
        ("none", "0.001"),
        ("none", "0.003"),
    ]


def test_a_curve_tells_its_numbers_to_the_pointer_and_the_keyboard(tab):
    drawing = tab.locator("#curves svg[role=img]").nth(1)
    drawing.focus()
    tab.keyboard.press("ArrowRight")
    tip = tab.locator("#curves .tip").nth(1)
    assert "task 0" in tip.text_content()
    assert re.search(r"m, adam:lr=0\.003 0\.71 \[0\.7, 0\.72\]", tip.text_content())
    tab.keyboard.press("Escape")
    assert tip.is_hidden()
    box = drawing.bounding_box()
    tab.mouse.move(box["x"] + box["width"] * 0.97, box["y"] + box["height"] / 2)
    assert "task 9" in tip.text_content()


def test_svg_downloads_are_drawings_with_title_and_legend(tab, tmp_path):
    path = saved(tab, tab.locator("#curves figure").nth(1), "SVG", tmp_path)
    assert path.name.endswith("online-accuracy.svg")
    root = ElementTree.parse(path).getroot()
    assert root.tag == f"{SVG}svg"
    texts = [each.text for each in root.iter(f"{SVG}text")]
    assert texts[0] == "online accuracy"
    assert {NONE, SLOW, M, HOSTILE, "fresh network"} <= set(texts)
    assert {each.tag for each in root.iter()} == {SVG + tag for tag in ("svg", "path", "text", "circle")}
    paint = {each.get(key) for each in root.iter() for key in ("fill", "stroke")} - {None, "none"}
    assert all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in paint)


@pytest.mark.parametrize("place", ["rates", "curves", "scatter", "layers"])
def test_pdf_downloads_are_well_formed(tab, tmp_path, place):
    content = saved(tab, tab.locator(f"#{place} figure").last, "PDF", tmp_path).read_bytes()
    assert content.startswith(b"%PDF-1.4\n")
    start = int(re.search(rb"startxref\n(\d+)\n%%EOF\n$", content)[1])
    assert content[start:].startswith(b"xref\n0 7\n")
    for number, offset in enumerate(re.findall(rb"(\d{10}) 00000 n ", content), start=1):
        assert content[int(offset) :].startswith(b"%d 0 obj\n" % number)
    length = int(re.search(rb"/Length (\d+)", content)[1])
    stream = content[content.index(b"stream\n") + 7 :]
    assert stream[length:].startswith(b"\nendstream")
    assert b"NaN" not in stream[:length]
    states = set(re.findall(rb"/(A\d+) gs", stream[:length]))
    assert states == set(re.findall(rb"/(A\d+) <<", content))
    # Each text is one string: its parentheses are escaped.
    assert re.search(rb"\(((?:[^()\\]|\\.)*)\) Tj", stream[:length])
    assert stream[:length].count(b" Tj ET") == len(re.findall(rb" Tm \((?:[^()\\]|\\.)*\) Tj ET", stream[:length]))


def test_csv_downloads_hold_what_is_drawn(tab, tmp_path):
    with saved(tab, tab.locator("#curves figure").nth(1), "CSV", tmp_path).open(newline="") as file:
        rows = list(csv.DictReader(file))
    (first,) = [row for row in rows if row["method"] == M and row["first_task"] == "0"]
    assert first["metric"] == "online_accuracy"
    assert [float(first[key]) for key in ("mean", "low", "high")] == pytest.approx([0.71, 0.7, 0.72])
    assert {row["method"] for row in rows} == {NONE, SLOW, M, HOSTILE, "fresh network"}
    with tab.expect_download() as started:
        tab.get_by_role("button", name="Download as CSV", exact=True).click()
    started.value.save_as(tmp_path / "board.csv")
    with (tmp_path / "board.csv").open(newline="") as file:
        assert [f"{row['method']}, {row['optimizer']}" for row in csv.DictReader(file)].count(HOSTILE) == 1


def test_cells_of_a_csv_cannot_become_formulas(tab):
    quoted = tab.evaluate("""() => csv([["=1+1", "@x", "-y", -1.5, NaN, 'a,"b"']])""")
    assert quoted == '\'=1+1,\'@x,\'-y,-1.5,,"a,""b"""\n'


def test_the_page_cannot_ask_for_anything_even_if_it_tried(browser, page):
    context = browser.new_context()
    tab = context.new_page()
    tab.goto(page.as_uri())
    server = socket.create_server(("127.0.0.1", 0))
    server.setblocking(False)
    kinds, silent = tab.evaluate(
        """async (address) => {
            const violated = [];
            document.addEventListener("securitypolicyviolation", event => violated.push(event.effectiveDirective));
            await fetch(address).catch(() => {});
            for (const tag of ["img", "script"]) {
                const made = document.createElement(tag);
                made.src = address;
                document.body.append(made);
            }
            const made = document.createElement("script");
            made.textContent = "window.ran = true";
            document.body.append(made);
            await new Promise(done => setTimeout(done, 200));
            return [violated.sort(), window.ran === undefined];
        }""",
        f"http://127.0.0.1:{server.getsockname()[1]}/",
    )
    context.close()
    with server, pytest.raises(BlockingIOError):  # nobody has called
        server.accept()
    assert silent
    assert kinds == ["connect-src", "img-src", "script-src-elem", "script-src-elem"]


def test_it_fits_a_phone(open_page):
    tab = open_page(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    tab.get_by_role("button", name=M, exact=True).tap()
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360
    small = tab.evaluate(
        """() => [...document.querySelectorAll(".tools button, .expand, input[type=search]")]
            .filter(each => each.getBoundingClientRect().height < 24).length"""
    )
    assert small == 0  # WCAG 2.2, 2.5.8


def test_dark_and_light_follow_the_system_until_one_is_chosen(open_page):
    tab = open_page(color_scheme="dark")
    paper = "getComputedStyle(document.documentElement).backgroundColor"
    assert tab.evaluate(paper) == "rgb(22, 24, 28)"
    for name, colour in (("light", "rgb(255, 255, 255)"), ("dark", "rgb(22, 24, 28)"), ("system", "rgb(22, 24, 28)")):
        tab.locator("#theme").click()
        assert tab.locator("#theme").text_content() == f"Theme: {name}"
        assert tab.evaluate(paper) == colour


def test_print_is_dark_on_white_without_controls(open_page):
    tab = open_page(color_scheme="dark")
    tab.emulate_media(media="print", color_scheme="dark")
    assert tab.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(255, 255, 255)"
    for control in ("#filter", "#theme", ".tools"):
        assert tab.locator(control).first.is_hidden()
    assert tab.locator(".board").first.is_visible()


def test_without_its_script_the_tables_still_stand(open_page):
    tab = open_page(java_script_enabled=False)
    assert methods(tab)[0] == M
    assert tab.get_by_text("All runs completed").count() == 0


@pytest.mark.parametrize(("pages", "rows"), [("thousand", 200), ("ten_thousand", 2000)])
def test_many_runs_open_in_less_than_three_seconds(open_page, request, pages, rows):
    tab = open_page(request.getfixturevalue(pages))
    assert tab.locator("#count").text_content() == f"{rows} rows"
    session = tab.context.new_cdp_session(tab)
    session.send("Performance.enable")
    spent = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
    assert 0 < spent["ThreadTime"] < 3.0  # of the page's own thread: other work on the machine is not the page's
