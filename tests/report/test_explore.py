"""What the page finds, groups, pins, compares and links, in a headless Chromium."""

import csv
import re

import pytest

HOSTILE = "<script>alert(1)</script>, adam:lr=0.003"
M, NONE, SLOW = "m, adam:lr=0.003", "none, adam:lr=0.003", "none, adam:lr=0.001"
NARROW = "net:width=8"


@pytest.fixture
def open_page(browser, page):
    """Return a function that opens the page at a state, and checks at the end that nothing went wrong."""
    contexts, wrong = [], []

    def opened(state="", **options):
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        tab = context.new_page()
        tab.on("console", lambda message: wrong.append(message.text))
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.goto(f"{page.as_uri()}{state}")
        return tab

    yield opened
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.fixture
def tab(open_page):
    return open_page()


def methods(tab):
    return tab.locator(".protocol", has_text=NARROW).first.locator(".expand:visible").all_text_contents()


def state(tab):
    return tab.evaluate("location.hash")


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("lr<0.002", [SLOW]),
        ("optimizer.lr=0.001", [SLOW]),
        ("retention>0.7", [M, SLOW]),
        ("retention>=0.7 lr>=0.003", [M]),
        ("method=none", [NONE, SLOW]),
        ("track=aware", [HOSTILE]),
        ("absent=1", []),
        ("lr<fast", []),
    ],
)
def test_the_filter_takes_fields_and_numbers(tab, asked, found):
    tab.locator("#filter").fill(asked)
    assert sorted(methods(tab)) == sorted(found)


def test_a_pinned_row_stays_on_top_whatever_is_filtered_or_sorted(tab):
    tab.get_by_role("button", name=f"Pin {NONE}").click()
    assert methods(tab)[0] == NONE
    tab.locator("#filter").fill("lr<0.002")
    assert methods(tab) == [NONE, SLOW]
    tab.locator("#filter").fill("")
    section = tab.locator(".protocol", has_text=NARROW).first
    section.get_by_role("button", name="trainability", exact=True).click()
    assert methods(tab) == [NONE, M, SLOW, HOSTILE]
    tab.get_by_role("button", name=f"Pin {NONE}").click()
    assert methods(tab) == [M, SLOW, NONE, HOSTILE]


def test_rows_are_grouped_by_a_field_and_empty_groups_are_hidden(tab):
    tab.locator("#group").select_option("optimizer.lr")
    section = tab.locator(".protocol", has_text=NARROW).first
    assert section.locator("tbody.group").all_text_contents() == ["optimizer.lr: 0.001", "optimizer.lr: 0.003"]
    assert methods(tab)[0] == SLOW
    tab.locator("#filter").fill("lr>0.002")
    assert section.locator("tbody.group:visible").all_text_contents() == ["optimizer.lr: 0.003"]
    tab.locator("#filter").fill("")
    tab.locator("#group").select_option("")
    assert section.locator("tbody.group").count() == 0


def test_a_link_opens_the_page_as_it_was(tab, open_page):
    tab.locator("#filter").fill("adam")
    tab.locator("#group").select_option("track")
    tab.get_by_role("button", name=f"Pin {NONE}").click()
    tab.locator("#pair-a").select_option(label=SLOW)
    again = open_page(state(tab))
    assert methods(again) == methods(tab)
    assert methods(again)[0] == NONE
    assert again.locator("#filter").input_value() == "adam"
    assert again.locator("tbody.group").first.text_content().startswith("track: ")
    assert again.locator("#pair-a").evaluate("box => box.selectedOptions[0].textContent") == SLOW
    assert state(open_page()) == ""


def test_a_link_that_names_what_is_not_there_is_the_usual_page(open_page):
    assert methods(open_page("#pin=nothing&group=nowhere&protocol=none&first=x&rows=y")) == methods(open_page())


def test_two_methods_are_compared_seed_by_seed(tab, tmp_path):
    tab.locator("#pair-a").select_option(label=M)
    tab.locator("#pair-b").select_option(label=NONE)
    said = tab.locator("#pair-text").text_content()
    assert f"Retention, {M} minus {NONE}: 0.333 [0.333, 0.333], mean of 3 seeds in common" in said
    with tab.expect_download() as started:
        tab.locator("#pair figure").get_by_role("button", name=re.compile("download as CSV")).click()
    started.value.save_as(tmp_path / "pair.csv")
    with (tmp_path / "pair.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["difference"]) for row in rows] == pytest.approx([0.2] * 10, abs=1e-6)
    assert {row["seeds"] for row in rows} == {"3"}


def test_the_interval_of_a_difference_is_that_of_a_t_test(tab):
    from scipy import stats

    values = [0.1, 0.4, 0.35, 0.2]
    found = tab.evaluate("values => meanInterval(values)", values)
    low, high = stats.t.interval(0.95, 3, loc=sum(values) / 4, scale=stats.sem(values))
    assert found == pytest.approx([sum(values) / 4, low, high], rel=1e-3)
    assert tab.evaluate("meanInterval([0.5]).map(Number.isNaN)") == [False, True, True]
    for df in (1, 30, 31, 60, 400):
        quantile = tab.evaluate("df => STUDENT[df - 1] ?? 1.96 + 2.4 / df", df)
        assert quantile == pytest.approx(stats.t.ppf(0.975, df), abs=4e-3)


def test_two_factors_make_a_matrix_in_which_nothing_is_averaged(tab):
    table = tab.locator("#matrix-table")
    tab.locator("#matrix-rows").select_option("method")
    tab.locator("#matrix-columns").select_option("architecture")
    assert table.locator("thead th").all_text_contents() == ["method", "net:width=8", "net:width=16"]
    rows = {
        row.locator("th").text_content(): row.locator("td").all_text_contents()
        for row in table.locator("tbody tr").all()
    }
    assert rows["m"][0].startswith("0.")
    assert re.fullmatch(r"0\.\d\d to 0\.\d\d2 rows", rows["none"][0])  # two learning rates
    assert rows["m"][1] == "–"
    tab.locator("#matrix-columns").select_option("optimizer.lr")
    assert table.locator("thead th").all_text_contents() == ["method", "0.001", "0.003"]


@pytest.mark.parametrize("height", [600, 900])
def test_an_enlarged_figure_is_drawn_anew_and_fits_the_window(open_page, height):
    tab = open_page(viewport={"width": 1280, "height": height})
    figure = tab.locator("#curves figure").first
    text = "svg => svg.querySelector('text').getBoundingClientRect().height"
    drawing = figure.locator("svg[role=img]")
    before = drawing.evaluate(text)
    figure.get_by_role("button", name=re.compile("larger")).click()
    assert figure.evaluate("each => each.getBoundingClientRect().height") <= 0.75 * height
    assert drawing.evaluate("each => each.getBoundingClientRect().width") > 900
    assert drawing.evaluate(text) < 1.5 * before  # larger, not blown up
    figure.get_by_role("button", name=re.compile("larger")).click()
    assert drawing.evaluate(text) == pytest.approx(before)


def test_names_are_broken_where_they_are_joined_and_layers_stand_whole(tab):
    for selector in (".protocol h3", ".expand", "#methods label span", ".matrix th"):
        html = tab.locator(selector).first.evaluate("each => each.innerHTML")
        assert ("<wbr>" in html) == bool(re.search(r"[_:,+]\S", tab.locator(selector).first.text_content()))
    names = tab.locator("#layers svg").first.locator("text").all_text_contents()
    assert {"in", "out"} <= set(names)


def test_metrics_and_columns_are_explained_on_hover(tab):
    meaning = tab.locator("#curves h4 span", has_text="dead fraction").get_attribute("title")
    assert "silent" in meaning
    assert "1 is a fresh network" in tab.locator("th", has_text="trainability").first.get_attribute("title")


def test_layers_are_maps_or_curves_as_a_link_keeps(tab, open_page, tmp_path):
    tab.get_by_label("Metric").select_option("dead_fraction")
    tab.get_by_label("Shown as").select_option("curves")
    assert tab.locator("#layers h4").all_text_contents() == ["in", "out"]
    first = tab.locator("#layers figure").first
    assert first.locator("svg[role=img] path[stroke-width='1.6']").count() == 4  # a line for each method
    with tab.expect_download() as started:
        first.get_by_role("button", name=re.compile("download as CSV")).click()
    started.value.save_as(tmp_path / "layer.csv")
    with (tmp_path / "layer.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["method"] == M]
    assert {row["layer"] for row in rows} == {"in"}
    assert [float(row["dead_fraction"]) for row in rows] == pytest.approx([0.01 + 0.01 * task for task in range(10)])
    again = open_page(state(tab))
    assert again.locator("#layers h4").all_text_contents() == ["in", "out"]


def test_a_run_links_its_record(tab, filled):
    tab.get_by_role("button", name=M, exact=True).click()
    link = tab.locator(".detail:visible .runs tbody tr").first.locator("a")
    assert tab.evaluate("name => new URL(name, location.href).href", link.get_attribute("href")) == (
        (filled.root / "runs" / link.text_content()).as_uri() + "/"
    )


def test_rows_of_one_colour_differ_in_their_dashes(tab):
    found = tab.evaluate(
        """() => {
            for (const row of table.rows) row.look = ["m0", row.look[1]];
            show(0);
            return table.rows.map(row => look(row.label)).map(({ paint, dash }) => paint + dash);
        }"""
    )
    assert len(set(found)) == 4


def test_each_seed_has_a_thin_line_when_asked(tab):
    lines = tab.locator("#curves figure", has_text="online accuracy").locator("svg[role=img] path[stroke-width='0.5']")
    assert lines.count() == 0
    tab.get_by_label(re.compile("A thin line for each seed")).check()
    assert lines.count() == 12  # three seeds of four rows


def test_one_scale_of_intervals_holds_for_all_tables(tab):
    places = tab.locator("td svg.interval path.fresh").evaluate_all("all => all.map(each => each.getAttribute('d'))")
    assert len(set(places)) == 1
    assert tab.locator("th svg.interval text").all_text_contents() == ["0", "1", "0", "1"]


def test_the_largest_table_comes_first(tab):
    rows = [section.locator("tbody[data-key]").count() for section in tab.locator(".protocol").all()]
    assert rows == sorted(rows, reverse=True)
