import base64
import hashlib
import itertools
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from lopbench.core.errors import ResultsError
from lopbench.report.page import PALETTE, render, write_report
from lopbench.report.summary import summarise
from lopbench.results.leaderboard import leaderboard, to_csv
from lopbench.results.looks import COLOURS, DARK_COLOURS, DARK_GREYS, PLAIN, looks

VOID = {"meta", "link", "input", "img", "br", "wbr"}


class Tree(HTMLParser):
    """Collects elements with their attributes, and the text of each script, style and cell."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.texts, self.open = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    def of(self, tag):
        return [data for place, data in self.texts if place == tag]


@pytest.fixture(scope="session")
def text(page):
    return page.read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def tree(text):
    return Tree(text)


@pytest.fixture(scope="session")
def data(tree):
    return json.loads(next(script for script in tree.of("script") if script.startswith("{")))


def test_elements_are_balanced_and_ids_unique(tree):
    assert tree.open == []
    ids = [attributes["id"] for _, attributes in tree.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    named = [
        attributes[key]
        for _, attributes in tree.elements
        for key in ("aria-labelledby", "aria-controls")
        if key in attributes
    ]
    assert set(named) <= set(ids)


def test_names_and_errors_with_markup_stay_text(tree, text):
    assert [tag for tag, _ in tree.elements].count("script") == 2
    assert "img" not in {tag for tag, _ in tree.elements}
    assert text.count("</script") == 2
    assert "<script>alert(1)</script>, adam:lr=0.003" in "".join(tree.of("button"))
    assert any("</script><img src=x onerror=alert(2)> & more" in cell for cell in tree.of("td"))
    assert not any(key.startswith("on") or key == "style" for _, attributes in tree.elements for key in attributes)


def test_the_policy_allows_this_very_script_and_style_and_no_request(tree):
    (policy,) = [a["content"] for tag, a in tree.elements if a.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"

    def source(content):
        return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"

    (style,) = tree.of("style")
    assert rules["style-src"] == source(style)
    assert rules["script-src"] == source(next(s for s in tree.of("script") if not s.startswith("{")))
    assert set(rules) == {"default-src", "style-src", "script-src", "img-src", "base-uri", "form-action"}
    assert rules["img-src"] == "data:"


def test_nothing_points_out_of_the_page(tree):
    links = [a[key] for _, a in tree.elements for key in ("src", "href", "action", "srcset") if key in a]
    assert all(link.startswith("#") or link == "data:," for link in links)
    assert not re.search(r"url\(|@import|https?:", "".join(tree.of("style")))
    script = next(s for s in tree.of("script") if not s.startswith("{"))
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|fetch\(|XMLHttp|import\(", script
    )
    assert set(re.findall(r"https?:[^\"]*", script)) == {"http://www.w3.org/2000/svg"}  # a name, not an address


def test_numbers_are_those_of_the_runs(data, filled):
    table = max(data["tables"], key=lambda each: len(each["rows"]))
    row = next(each for each in table["rows"] if each["label"] == "m, adam:lr=0.003")
    curve = np.frombuffer(base64.b64decode(row["curves"]["online_accuracy"]), "<f4").reshape(3, table["tasks"])
    assert curve[0] == pytest.approx([0.71 + 0.002 * task for task in range(10)], rel=1e-6)
    assert curve[1:, 0] == pytest.approx([0.70, 0.72], rel=1e-6)
    maps = np.frombuffer(base64.b64decode(row["maps"]["effective_rank"]), "<f4").reshape(2, 10)
    assert maps.tolist() == [[4.0 + t for t in range(10)], [5.0 + t for t in range(10)]]
    frame = leaderboard(filled.root)
    line = frame[frame["method"] == "m"].iloc[0]
    assert (row["method"], row["lr"]) == ("m", line["lr"])
    assert row["retention"] == [line["retention"], line["retention_low"], line["retention_high"]]


def test_rows_look_as_in_figures(data, text):
    table = max(data["tables"], key=lambda each: len(each["rows"]))
    labels = [row["label"] for row in table["rows"]]
    light, dark = looks(labels), looks(labels, dark=True)
    drawn = {row["label"]: row["look"] for row in table["rows"]}
    assert {label: data["palette"][paint] for label, (paint, _) in drawn.items()} == {
        label: light[label].colour for label in labels
    }
    assert {label: marker for label, (_, marker) in drawn.items()} == {label: light[label].marker for label in labels}
    for label, (paint, _) in drawn.items():
        assert text.count(f"--{paint}:{light[label].colour};") == 3  # of a light system, of a choice, and in print
        assert text.count(f"--{paint}:{dark[label].colour};") == 2
    assert len({data["palette"][paint] for paint, _ in drawn.values()}) == 4
    methods = {row["method"]: data["palette"][row["family"][0]] for row in table["rows"]}
    assert methods == {name: look.colour for name, look in looks(methods).items()}


def test_records_below_the_page_are_linked_and_no_others(data, filled, tmp_path):
    assert data["folders"] == ["./results/runs/"]
    run = data["tables"][0]["rows"][0]["runs"][0]
    assert run[-1] == 0
    assert (filled.root / "runs" / run[-2]).is_dir()
    write_report(tmp_path / "elsewhere.html", filled.root)
    assert '"folders":[]' in (tmp_path / "elsewhere.html").read_text()


def test_the_csv_is_the_leaderboards_own(data, filled, tmp_path):
    to_csv(leaderboard(filled.root), tmp_path / "own.csv")
    assert data["csv"] == (tmp_path / "own.csv").read_text()


def test_the_same_runs_give_the_same_page(page, filled):
    again = page.with_name("again.html")
    write_report(again, filled.root)
    assert again.read_bytes() == page.read_bytes()


def test_a_page_that_cannot_be_written_leaves_nothing_behind(filled, tmp_path):
    (tmp_path / "report.html").mkdir()
    with pytest.raises(ResultsError, match=r"cannot be written to .*report\.html"):
        write_report(tmp_path / "report.html", filled.root)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_every_row_has_its_command_and_every_failed_run_its_reason(tree, filled):
    commands = "".join(tree.of("code"))
    assert commands.count("lopbench run ") == len(leaderboard(filled.root))
    assert tree.of("span").count("--seeds") == len(leaderboard(filled.root))
    assert "1 failed" in "".join(tree.of("small"))


def test_runs_without_a_score_have_a_page(results):
    results.add(results.spec(), {}, status="failed", error="it did not go well")
    assert "it did not go well" in render(summarise(results.root), "title")


def test_methods_over_all_scenarios_come_first(many_seeds, results):
    m = results.component("methods", "m", track="boundary-free")
    for scenario in ("one", "two"):
        changes = {"scenario": results.component("scenarios", scenario, tasks=10, steps_per_task=100, profile="lite")}
        many_seeds([0.5, 0.6, 0.55], **changes)
        many_seeds([0.5, 0.6, 0.7], results.component("methods", "n", track="boundary-free"), **changes)
        if scenario == "one":
            many_seeds([0.7, 0.8, 0.9], m, **changes)
    shown = "".join(data for _, data in Tree(render(summarise(results.root), "title")).texts)
    assert shown.index("Over all scenarios: lite, 2 scenarios") < shown.index("one lite, net")
    assert re.search(r"m\s*–\s*free\s*–\s*–\s*1\.00\s*one\s*1 of 2\s*without two", shown)


def test_names_of_many_sets_stand_under_the_heading(results, tmp_path):
    folders = [tmp_path / name for name in ("one", "two", "three", "four")]
    for seed, folder in enumerate(folders):
        results.add(results.spec(), 0.5, seed=seed, root=folder)
    write_report(tmp_path / "few.html", *folders[:3])
    assert "<h1>one, two, three</h1>" in (tmp_path / "few.html").read_text()
    write_report(tmp_path / "many.html", *folders)
    text = (tmp_path / "many.html").read_text()
    assert "<h1>4 sets of results</h1>" in text
    assert text.count("one, two, three, four") == 1


def test_a_title_is_escaped(filled):
    assert "<title>a &lt;b&gt; · lopbench</title>" in render(summarise(filled.root), "a <b>")


def test_a_thousand_runs_and_ten_thousand_are_less_than_ten_megabytes(thousand, ten_thousand):
    assert 4e6 < thousand.stat().st_size < 10e6
    assert 4e6 < ten_thousand.stat().st_size < 10e6


# -- colours, simulated as in Table 1 of G. M. Machado, M. M. Oliveira, L. A. F. Fernandes, 2009,
#    doi:10.1109/TVCG.2009.113

SIGHT = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


#: Of plain learning and of methods, on light and on dark paper.
SERIES = (PLAIN, *COLOURS), (DARK_GREYS[0], *DARK_COLOURS)


def linear(colour):
    value = np.array([int(colour[index : index + 2], 16) for index in (1, 3, 5)]) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ rgb.clip(0, 1)
    x, y, z = np.cbrt(np.maximum(xyz / [0.9505, 1, 1.089], 0.008856))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def contrast(colour, paper):
    low, high = sorted(np.array([0.2126, 0.7152, 0.0722]) @ linear(each) for each in (colour, paper))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_methods_are_told_apart_with_any_colour_vision(theme, sight):
    seen = {colour: lab(np.array(SIGHT[sight]) @ linear(colour)) for colour in SERIES[theme]}
    assert len(seen) == 9
    for one, other in itertools.combinations(seen, 2):
        assert np.linalg.norm(seen[one] - seen[other]) > 20, (one, other)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_and_lines_stand_out_from_the_paper(theme):
    """WCAG 2.2, 1.4.3 and 1.4.11: 4.5 for text, 3 for what is drawn."""
    paper = PALETTE["paper"][theme]
    for name in ("ink", "muted", "accent", "alarm"):
        assert contrast(PALETTE[name][theme], paper) > 4.5, name
    for colour in SERIES[theme]:
        assert contrast(colour, paper) > 2.8, colour


def test_errors_stand_above_those_of_fresh_networks(results, tmp_path):
    for seed, error in enumerate((0.75, 1.0, 1.25)):
        spec = results.spec(seed=seed)
        results.add(spec, error, score="error", chance=2.5)
        results.add(spec.reference(), 0.75, score="error", chance=2.5)
    write_report(tmp_path / "page.html", results.root)
    words = " ".join(data for _, data in Tree((tmp_path / "page.html").read_text(encoding="utf-8")).texts)
    assert re.search(r"above fresh\s+error", words)
    assert re.search(r"0\.250\s+\[0\.000, 0\.500\]", words)
