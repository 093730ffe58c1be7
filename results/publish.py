"""Derives the published tables and figures, this folder's README and the project's, from the run records here.

Run ``python results/publish.py`` after adding runs; a test keeps what is committed equal to what the records give.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from lopbench.core.shipped import shipped
from lopbench.results.cells import with_interval
from lopbench.results.columns import BY_NAME, SECONDARY
from lopbench.results.factors import MARK, cross, crossing_tables
from lopbench.results.figure_plot import draw
from lopbench.results.judged import Judged
from lopbench.results.layout import Table, in_markdown
from lopbench.results.leaderboard import board, board_of, leaderboard, markdown, to_csv
from lopbench.results.plots import RETENTION, curves, retention_vs_learning_rate, save
from lopbench.results.record import Record, find_records
from lopbench.results.seed_scores import AXES
from lopbench.results.stream_plots import cloning_curves, error_curves, recovery_bars, recovery_curves
from lopbench.results.suite import members, suite_frame, suite_table
from lopbench.results.suite_plots import suite_scores
from lopbench.results.tables import explanation
from lopbench.results.verdicts import COLLAPSE_NOTE
from lopbench.runner.claimed import Rows, judged, missing, recorded_tables, resolved
from lopbench.runner.figured import entries_of, panels_of
from lopbench.runner.study_file import read_study
from lopbench.runner.suites import suite_of
from lopbench_plugins.scenarios.bitflip import AUTHORS_METRICS

HERE = Path(__file__).resolve().parent
README = HERE.parent / "README.md"
#: The packed set of each folder.
RUNS = "runs.lopbench"
#: The columns that the project's README explains besides the two axes.
SHOWN_COLUMNS = (*(name for name in SECONDARY if name not in AXES), "track", "rank_low", "seeds")
#: The result set that the project's README shows.
SHOWN = HERE / "tinyimagenet40-lite-mlp"

Figures = dict[str, Figure]


@dataclass(frozen=True)
class ResultSet:
    """A folder of published runs.

    Args:
        folder: Its name.
        title: What it measures.
        text: What it shows, in a paragraph.
        commands: What made it, to be run in a checkout; ``--results`` is left out.
        figures: Draws its figures, by file name without suffix, from its table and its records.
        papers: Names of the shipped figures of papers whose runs it holds; they are drawn beside what is published.
        suite: Name of the suite whose runs it holds; its tables are those of the suite.
    """

    folder: str
    title: str
    text: str
    commands: Sequence[str]
    figures: Callable[[pd.DataFrame, list[Record]], Figures]
    papers: Sequence[str] = ()
    suite: str = ""

    @property
    def path(self) -> Path:
        """Where it is."""
        return HERE / self.folder

    def drawn(self, frame: pd.DataFrame, records: list[Record]) -> Figures:
        """Return all its figures."""
        found = self.figures(frame, records)
        for name in self.papers:
            file = read_study(shipped("figures")[name])
            tables = recorded_tables(file.requests, records)
            assert file.figure is not None
            entries = entries_of(file.figure, tables)
            found[f"figure-{name}"] = draw(file.figure, panels_of(file.figure, entries, Rows(records, tables)))
        return found


def main() -> None:
    """Bring everything up to date."""
    for each in sets():
        frame = leaderboard(each.path)
        to_csv(frame, each.path / "leaderboard.csv")
        records = find_records(each.path)
        for name, figure in each.drawn(frame, records).items():
            save(figure, each.path / f"{name}.svg")
    (HERE / "README.md").write_text(overview())
    README.write_text(with_results(README.read_text()))


def sets() -> list[ResultSet]:
    """Return the published result sets, those in this folder in the order of `SETS`."""
    found = {path.parent.name for path in HERE.glob(f"*/{RUNS}")}
    known = [each for each in SETS if each.folder in found]
    assert found == {each.folder for each in known}, f"say in SETS what {found} are"
    return known


def overview() -> str:
    """Return the README of this folder."""
    lines = [
        "# Results",
        "",
        "Each folder holds the records of its runs packed as one file, `runs.lopbench`, the leaderboard they give, and",
        "figures. All commands read a packed set in the place of a folder of runs:",
        "",
        "```sh",
        f"lopbench leaderboard results/{SHOWN.name}/{RUNS}",
        f"lopbench report results/{SHOWN.name}/{RUNS}",
        f"lopbench unpack results/{SHOWN.name}/{RUNS} --output unpacked",
        "```",
        "",
        "Unpacked, a record is a directory: `spec.json` (everything that changes the numbers), `measurements.parquet`",
        "(tidy: step, task, layer, metric, value), `environment.json`, `status.json`, `log.txt`. A packed set is an",
        "uncompressed zip, and its Parquet files open in any program. `lopbench pack RESULTS --output NAME.lopbench`",
        "makes one of your own runs. `lopbench leaderboard results/FOLDER`",
        "derives the tables below again; this page, the CSVs and the figures are made by `results/publish.py`.",
        "",
    ]
    lines += ["## What is claimed", "", *claims(), ""]
    boards = {each.folder: leaderboard(each.path) for each in sets()}
    lines += ["## What the words of the tables mean", "", *(f"- {line}" for line in explanation(boards.values())), ""]
    for each in sets():
        lines += [f"## {each.title}", "", each.text, "", "```sh", *each.commands, "```", ""]
        lines += [in_markdown(suite_tables(each)) if each.suite else markdown(boards[each.folder], explained=False)]
        names = sorted(path.name for path in each.path.glob("*.svg"))
        lines += [line for name in names for line in (f"![{name.removesuffix('.svg')}]({each.folder}/{name})", "")]
    return "\n".join(lines)


@cache  # what is read takes half a minute, and both READMEs show it
def suite_tables(each: ResultSet) -> list[Table]:
    """Return the tables of a set that is a suite: of the suite, and of methods, in the same order, by scenarios."""
    suite, entries = suite_of(each.suite), board(each.path).entries
    found = members(suite, entries)
    order = {member.entry.row["method_id"]: place for place, member in enumerate(found)}
    entries = sorted(entries, key=lambda entry: order.get(entry.row["method_id"], len(order)))
    crossed = crossing_tables(cross(entries, "method", "scenario"), wide=True)
    return [suite_table(suite, suite_frame(suite, found), wide=True), *crossed]


def claims() -> list[str]:
    """Return what these sets together say of the claims that are shipped, those of which they hold all runs."""
    lines = [
        "What these sets say of claims that are shipped as studies. 'lopbench list claims' shows those and others, and",
        "'lopbench verify NAME results/*/ --no-run' has the tests, and what is done otherwise than in the source.",
        "Value: mean over seeds, with its 95% interval. Verdict: two-sided tests at 5%, for each claim by itself; of",
        f"several numbers all have to lie where the claim says. {MARK}: seeds collapsed, so that the interval does "
        "not hold.",
        "",
    ]
    table = [
        "| study | claim | source | claimed | value | seeds | verdict |",
        "|---|---|---|---|---|---|---|",
    ]
    studies: dict[str, dict[str, None]] = {}
    counts: Counter[str] = Counter()
    records = find_records(*(each.path for each in sets()))
    for name, path in shipped("claims").items():
        file = read_study(path)
        tables = recorded_tables(file.requests, records)
        if not missing(records, tables):
            rows = Rows(records, tables)
            assert not rows.problems, rows.problems
            for each in judged(file.claims, resolved(file.claims, tables), rows):
                table += claim_rows(name, each)
                counts[each.word] += 1
                studies.setdefault(each.word, {})[f"`{name}`"] = None
    for word, names in sorted(studies.items()):
        lines.append(f"- **{word}**: {counts[word]} of {counts.total()} claims, in {', '.join(names)}")
    return [*lines, "", *table]


def claim_rows(name: str, each: Judged) -> list[str]:
    """Return the rows of a claim, one for each of its numbers."""
    rows = []
    for place, found in enumerate(each.numbers):
        first = place == 0
        collapsed = f" {MARK}" if COLLAPSE_NOTE in found.finding.note else ""
        cells = (
            f"`{name}`" if first else "",
            each.claim.text if first else "",
            each.claim.source if first else "",
            f"{found.link.what}: {found.link.range}",
            f"{found.finding.value:.3g} [{found.low:.3g}, {found.high:.3g}]{collapsed}",
            str(found.finding.seeds),
            f"**{each.word}**" if first else "",
        )
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def suite_section(each: ResultSet) -> str:
    """Return the README's results of a suite: a table of methods by scenarios, and a figure."""
    folder = each.path.relative_to(HERE.parent)
    lines = [
        "Methods that are not told of task boundaries, on the scenarios of the suite `cpu`, each with the best of 16",
        "configurations by its online score on the first tenth of the stream:",
        "",
        f"![Plasticity retention by method and scenario]({folder}/suite.svg)",
        "",
        "<details><summary>The same as tables, with 95% intervals</summary>",
        "",
        in_markdown(suite_tables(each)),
        "</details>",
        "",
    ]
    return "\n".join(lines)


def with_results(text: str) -> str:
    """Return the project's README with its columns as they are declared, and its results as the records give them."""
    text = _between(text, "columns", column_table())
    suites = "".join(f"\n{suite_section(each)}" for each in sets() if each.suite)
    return _between(text, "results", section(leaderboard(SHOWN)) + suites)


def _between(text: str, name: str, new: str) -> str:
    head, begin, rest = text.partition(f"<!-- {name} -->\n")
    _, end, tail = rest.partition(f"<!-- /{name} -->")
    return f"{head}{begin}{new}{end}{tail}"


def column_table() -> str:
    """Return what the columns of tables are, as they are declared."""
    lines = ["| column | is |", "|---|---|"]
    for name in (*AXES, *SHOWN_COLUMNS):
        heading, meaning = BY_NAME[name].shown("accuracy")
        lines.append(f"| `{heading}` | {meaning} |")
    return "\n".join(lines) + "\n"


def accuracy_figures(frame: pd.DataFrame, records: list[Record]) -> Figures:
    """Return the rows that the main table shows over the tasks, against fresh networks and by themselves.

    And the retention over learning rates.
    """
    sweep = frame.groupby("method").filter(lambda rows: rows["lr"].nunique() > 1)
    chosen = main_runs(frame, records)
    return {
        "learner-over-fresh": curves(chosen, RETENTION),
        "online-accuracy": curves(chosen, "online_accuracy"),
        "retention-vs-learning-rate": retention_vs_learning_rate(sweep),
    }


def stream_figures(frame: pd.DataFrame, records: list[Record]) -> Figures:
    """Return what learners keep of fresh networks over the tasks, those of the main table."""
    return {"learner-over-fresh": curves(main_runs(frame, records), RETENTION)}


def suite_figures(name: str) -> Callable[[pd.DataFrame, list[Record]], Figures]:
    """Return what draws the figure of a suite."""
    return lambda frame, records: {"suite": suite_scores(suite_of(name), board_of(records).entries)}


def tuned_figures(frame: pd.DataFrame, records: list[Record]) -> Figures:
    """Return what tuned learners keep of fresh networks over the tasks, by what they were tuned on."""
    found: Figures = {}
    for name, k in (("tuned-on-a-tenth", 0.1), ("tuned-on-all", 1.0)):
        runs = [each for each in continual(records) if each.spec.tuning is not None and each.spec.tuning.tuning.k == k]
        found[name] = curves([*runs, *(each for each in records if each.spec.kind == "fresh")], RETENTION)
    return found


def step_figures(frame: pd.DataFrame, records: list[Record]) -> Figures:
    """Return what learners of the longer stream keep of fresh networks over its tasks."""
    return {"learner-over-fresh": curves([r for r in records if r.spec.scenario.fields["tasks"] == 200], RETENTION)}


def regression_figures(frame: pd.DataFrame, records: list[Record]) -> Figures:
    """Return the error over the stream, a panel for each step size, and retention over step sizes."""
    network = frame[frame["architecture"] != "linear"]
    return {
        "error-by-step-size": error_curves(records),
        "retention-vs-step-size": retention_vs_learning_rate(network),
    }


def activation_figures(frame: pd.DataFrame, records: list[Record]) -> Figures:
    """Return the error over the stream under plain SGD, a line for each activation; ReLUs are in another set."""
    others = find_records(HERE / "slowly-changing-regression")
    rate = continual(records)[0].spec.optimizer
    plain = [r for r in continual([*records, *others]) if not r.spec.methods and r.spec.optimizer == rate]
    networks = [r for r in plain if r.spec.architecture.name == "online_mlp" and r.spec.scenario.name != "bitflip"]
    return {"error-by-activation": error_curves(networks)}


def continual(records: list[Record]) -> list[Record]:
    """Return the runs, without their references."""
    return [r for r in records if r.spec.kind == "continual"]


def recovery_figures(frame: pd.DataFrame, records: list[Record]) -> Figures:
    """Return error and effective rank over the stream for each width, and bars of all widths, of the paper's problem.

    And the bars of what the authors' code measures.
    """
    runs, fresh = ([r for r in records if r.spec.kind == kind] for kind in ("continual", "fresh"))
    full, authors = ([r for r in runs if r.spec.profile == name] for name in ("full", "authors"))
    widths = sorted({int(r.spec.architecture.fields["width"]) for r in full})
    by_width = {width: [r for r in full if r.spec.architecture.fields["width"] == width] for width in widths}
    rank, duplicates = AUTHORS_METRICS
    return {
        **{f"recovery-width-{width}": recovery_curves([*chosen, *fresh]) for width, chosen in by_width.items()},
        "widths": recovery_bars([r for r in full if r.spec.start]),
        "widths-authors": recovery_bars([r for r in authors if r.spec.start], (duplicates, rank, "online_error")),
    }


def cloning_figures(frame: pd.DataFrame, records: list[Record]) -> Figures:
    """Return what clones and their bases do over the epochs, as in Fig. 2.1, B.7, B.8, B.9, B.12 and B.13."""
    runs = continual(records)
    usual = [r for r in runs if r.spec.optimizer.name == "sgd"]
    plain = [r for r in runs if not r.spec.methods]

    def chosen(method: str, **fields: float) -> list[Record]:
        """Return the runs of a method, alone and under SGD, with some of its fields."""
        alone = ((r, r.spec.methods[0]) for r in usual if len(r.spec.methods) == 1)
        return [r for r, part in alone if part.name == method and fields.items() <= part.fields.items()]

    none = [r for r in plain if r in usual]
    return {
        "clones-and-bases": cloning_curves(
            [*none, *chosen("noisy_sgd", scale=0.01, decay=0.999), *chosen("dropout", p=0.1)]
        ),
        "noise-scale": cloning_curves([*none, *chosen("noisy_sgd", decay=0.9), *chosen("noisy_sgd", decay=0.999)]),
        "noise-decay": cloning_curves([*none, *chosen("noisy_sgd", scale=0.01)]),
        "dropout": cloning_curves([*none, *chosen("dropout")]),
        "optimizers": cloning_curves(plain, colours="optimizer"),
    }


def main_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the protocol and optimizer with the most methods."""
    tables = frame.groupby(["protocol_id", "optimizer"])
    rows: pd.DataFrame = tables.get_group(tables["method"].nunique().idxmax())
    return rows


def main_runs(frame: pd.DataFrame, records: list[Record]) -> list[Record]:
    """Return the runs of these rows, and their references."""
    rows = main_rows(frame)
    wanted = set(zip(rows["protocol_id"], rows["entry_id"], strict=True))
    chosen = [r for r in continual(records) if (r.protocol_id, r.spec.entry_id) in wanted]
    references = {r.spec.reference().run_id for r in chosen}
    return chosen + [r for r in records if r.run_id in references]


def section(frame: pd.DataFrame) -> str:
    """Return the README's results: one table, of retention over learning rates, and one figure."""
    folder = SHOWN.relative_to(HERE.parent)
    sweep = frame.groupby("method").filter(lambda group: group["lr"].nunique() > 1)
    rates, seeds = sorted(sweep["lr"].unique()), sweep["seeds"].min()
    lines = [
        "Plasticity retention (trainability) of a small network on 40 tasks of Tiny ImageNet, by method and learning",
        f"rate of Adam. 1 is a fresh network, 0 is chance; means of {seeds} seeds or more, with 95% intervals.",
        "",
        "| method | " + " | ".join(f"{rate:g}" for rate in rates) + " |",
        "|---|" + "---|" * len(rates),
    ]
    for method, group in sweep.groupby("method", sort=False):
        by_rate = {row["lr"]: retention_of(row) for _, row in group.iterrows()}
        lines.append(f"| `{method}` | " + " | ".join(by_rate.get(rate, "-") for rate in rates) + " |")
    lines += ["", f"![Plasticity retention over the learning rate]({folder}/retention-vs-learning-rate.svg)", ""]
    return "\n".join(lines)


def retention_of(row: "pd.Series[float]") -> str:
    """Return a retention with its interval."""
    value = row["retention"]
    return "-" if math.isnan(value) else with_interval(value, row["retention_low"], row["retention_high"])


def _six(scenario: str, seeds: str = "0-4") -> Sequence[str]:
    """Return what runs the six methods that stand in the published set of every stream."""
    return (
        f"lopbench run --scenario {scenario} --seeds {seeds} --method none --method reset --method l2_init \\",
        "  --method layernorm --method cbp --method shrink_and_perturb",
    )


SETS = (
    ResultSet(
        folder="cpu-suite",
        title="The suite `cpu`",
        text="Twenty-four methods that are not told of task boundaries, on real data where a stream has any. Each "
        "has the best of 16 configurations, of its own grid and of learning rates, by mean online score over "
        "three development seeds on the first tenth of the stream; five other seeds are scored. Tuned like "
        "that, plain learning has a mean of .42 over the six scenarios: it keeps .70 and .69 on the two streams "
        "of bits, .77 where pixels are permuted, .15 on Tiny ImageNet, and next to nothing under labels that "
        "are drawn anew (.15) or renamed (.05). CReLU keeps more than a fresh network of plain learning has on "
        "all six (1.11 to 1.69), and leaky ReLUs (`activation`) .93 or more; then come ReDo (.78 or more, a "
        "mean of 1.00), continual backprop (.75, 1.00) and self-normalised resets (.68, .96). Six scenarios do "
        "not show which of 24 methods would be best on others, so each may have any rank. In the scenarios "
        "themselves 19 methods are shown better than plain learning where pixels are permuted, 16 where labels "
        "are renamed, eleven on Tiny ImageNet and ten under random labels. None is on bits, where plain "
        "learning differs much between seeds (.27 to 1.03 and .26 to .91) and five have little power against so "
        "many. Some keep nothing in one scenario and nearly everything in another: UPGD (1.08 on flipped bits, "
        "-.03 on Tiny ImageNet), weight decay (1.40 on Tiny ImageNet, .04 under renamed labels), layer "
        "normalisation (1.42 on Tiny ImageNet, .28 under renamed labels). Standardised inputs (`input_norm`), a "
        "control, have the most of all where pixels are permuted (1.18), and diverge on bits that stand still "
        "for long (all seeds on flipped bits, three in the regression): one that flips then is a large number. "
        "The scenarios took about 75 (regression), 100 (bit flipping), 65 (random labels), 30 (renamed labels), "
        "50 (permuted pixels) and 120 minutes (Tiny ImageNet) on two cores, beside other programs.",
        commands=("lopbench run cpu",),
        figures=suite_figures("cpu"),
        suite="cpu",
    ),
    ResultSet(
        folder="tinyimagenet40-lite-mlp",
        title="Continual Tiny ImageNet, `lite`, `mlp`",
        text="Nine methods at the rate that tuning picks for plain Adam on the first tenth of the stream, and four of "
        "them over five learning rates; five seeds, real Tiny ImageNet (half of its training images). At that "
        "rate, 3e-3, plain Adam loses nearly everything. At 1e-3 it does not, and then no method here is shown "
        "to beat it but layer normalisation and noisy SGD; continual backprop and L2 at 3e-3 are shown worse "
        "than plain Adam at 1e-3. What is above 1 is transfer: at 1e-3 a fresh network of plain Adam has .78 of "
        "the reference, at 5e-4 half of it. On held-out images nothing but layer normalisation is above a fresh "
        "network, and plain Adam keeps .79 at most: trainability and generalisation disagree.",
        commands=(
            "lopbench run --data tiny-imagenet-200 --seeds 0-4 --method none --method reset --method head_reset \\",
            "  --method layernorm --method l2 --method cbp --method shrink_and_perturb \\",
            "  --method noisy_sgd --method dropout",
            "lopbench run --data tiny-imagenet-200 --seeds 0-4 --method none --method layernorm --method l2 \\",
            "  --method cbp --sweep lr=5e-4,1e-3,2e-3,5e-3",
        ),
        figures=accuracy_figures,
        papers=("3.1", "3.2"),
    ),
    ResultSet(
        folder="tinyimagenet40-normalisation",
        title="Continual Tiny ImageNet, `lite`, `mlp`: normalisation and dropout",
        text="Figures 4.1 and B.3 to B.6 of Joudaki et al. 2025 for their multilayer perceptron, with 40 tasks of 100 "
        "steps for 10,000; five seeds, and three with dropout; real Tiny ImageNet, Adam at 3e-3. The effective "
        "rank at the end is 27 without normalisation, 74 and 76 with batch normalisation (without and with affine "
        "parameters) and 68 and 72 with layer normalisation, where the figure has 25, 70, 67, 65. Of units without "
        "normalisation 56% die here and 43% there, and next to none with either. The order of online accuracies is "
        "theirs but for one pair: dropout costs accuracy under both normalisations, and with it the plain network, "
        "which loses nearly everything here, keeps .87. All of a plain network's loss is gone with batch or "
        "layer normalisation (1.02 and 1.20).",
        commands=("for figure in 4.1 B.3 B.4 B.5 B.6; do lopbench figure $figure; done",),
        figures=lambda frame, records: {},
        papers=("4.1", "B.3", "B.4", "B.5", "B.6"),
    ),
    ResultSet(
        folder="label-permuted-lite",
        title="Label-permuted MNIST, `lite`",
        text="Digits whose classes are renamed in each of 100 tasks; five seeds, real MNIST, Adam at 1e-3. Plain Adam "
        "keeps .35 of a fresh network and goes on losing; one of its seeds collapsed. L2 Init has .87, continual "
        "backprop .76, and shrink and perturb, which is told of boundaries, .68. Layer normalisation, the best on "
        "Tiny ImageNet, has .28 here. L2 Init is shown better than continual backprop, and both than layer "
        "normalisation; against plain Adam nothing is shown, for where seeds collapse five have little power. On "
        "held-out images the order is the same. Other programs ran on the machine, so that speeds are rough.",
        commands=_six("label_permuted"),
        figures=stream_figures,
    ),
    ResultSet(
        folder="label-permuted-tuned",
        title="Label-permuted MNIST, `lite`, tuned",
        text="The same stream. Each method has the best of 16 configurations, of its own grid and of learning rates, "
        "by mean online score over three development seeds, on the first tenth of the stream, and as an oracle on all "
        "of it; five other seeds are scored. Tuned on the first tenth, plain Adam keeps .05 of a fresh network and "
        "all of its seeds collapse; continual backprop keeps 1.00, L2 Init .86 and layer normalisation .28, all "
        "shown better. The oracle helps plain Adam, .36, and nobody else much: a method that keeps plasticity looks "
        "as good early as late, plain learning does not, and the column `fragility` has the difference. That "
        "methods and plain learning look alike once all are tuned on the whole stream is not found here.",
        commands=("lopbench verify D17",),
        figures=tuned_figures,
    ),
    ResultSet(
        folder="random-labels-lite",
        title="Random labels, `lite`",
        text="Fifty times 160 digits under labels drawn at random, to be memorised in 30 passes; five seeds, real "
        "MNIST, Adam at 1e-3. Plain Adam ends at .12 of a fresh network, and all of its seeds count as "
        "collapsed. Layer normalisation keeps 1.05, L2 Init .82, leaky ReLUs (`activation`) .66 and continual backprop "
        ".33, all shown better than plain Adam; shrink and perturb, which is told of boundaries, .70. A fresh "
        "network with layer normalisation has 1.26 of the reference: against that, it too has lost a sixth "
        "(`self`, .83), and goes on losing. Other programs ran on the machine, so that speeds are rough.",
        commands=(*_six("random_labels"), "lopbench verify D10"),
        figures=stream_figures,
    ),
    ResultSet(
        folder="permuted-mnist-lite",
        title="Permuted MNIST, `lite`",
        text="Digits whose pixels are permuted anew in each of 100 tasks; five seeds, real MNIST, Adam at 1e-3, four "
        "entries at 3e-3, and UPGD under SGD at .01. Plain Adam keeps .74 of a fresh network at 1e-3 and .52 at "
        "3e-3, and goes on losing at both. CReLU keeps 1.11, weight clipping 1.09, L2 Init 1.08, layer "
        "normalisation 1.01 and continual backprop .93, all shown better than plain Adam; shrink and perturb, "
        "which is told of boundaries, .81. The first three are shown better than layer normalisation. On "
        "held-out images the order is nearly the same. At 3e-3 layer normalisation with weight decay is not "
        "told apart from either alone. Other programs ran on the machine, so that speeds are rough.",
        commands=(
            *_six("permuted_mnist"),
            "for claim in D8 D9 D11 D15 D16; do lopbench verify $claim; done",
        ),
        figures=stream_figures,
    ),
    ResultSet(
        folder="permuted-mnist-online",
        title="Permuted MNIST, a sample at a time",
        text="The protocol of a public report: 200 tasks of 5,000 digits, batches of one, plain SGD, a network of "
        "three hidden layers of 100 units; five seeds, real MNIST. Online accuracy of the first and of the last "
        "25 tasks: .789 and .680 at a step size of .01, where the report has .796 and .672; .668 and .256 at "
        ".03 (.680 and .221); .800 and .751 at .003, a quotient of .938 (.906 at the step size that it tuned). "
        "So the step size sets how much is lost. L2 Init of .01 keeps everything, with 1.01 of its early "
        "accuracy in the last fifth and .828 in the last tasks (1.007 and .831). Weight clipping does not do "
        "here what it does there: .85 and .634 at .01, for 1.017 and .839 at the step size and bound that were "
        "tuned. Besides, what two claims need: half as many tasks of half as many digits at .03, where "
        "continual backprop keeps .90. Of its units 7% are dead late, where the source has hardly any.",
        commands=(
            'run="lopbench run --scenario permuted_mnist:tasks=200,steps_per_task=5000,batch_size=1,scale=unit"',
            'run="$run --architecture mlp:widths=100/100/100 --optimizer sgd:lr=0.01 --seeds 0-4"',
            "$run --sweep lr=0.01,0.03,0.003",
            "$run --method l2_init:strength=0.01 --method weight_clipping:kappa=1",
            "for claim in D3 D5; do lopbench verify $claim; done",
        ),
        figures=step_figures,
    ),
    ResultSet(
        folder="five-plus-one-lite",
        title="5+1 classes, `lite`",
        text="Five new classes of Tiny ImageNet, then one, and so on, 15 times; what is scored is how fast the five "
        "are learned. A small convolutional network, Adam at 1e-3, five seeds, real images. Plain Adam ends at "
        ".06 of a fresh network, and four of its seeds collapse. L2 Init keeps .54 and shrink and perturb, which "
        "is told of boundaries, .42: both are shown better. Continual backprop (.36) is not, for where seeds "
        "collapse five have little power. Layer normalisation helps a fresh network (1.25) and keeps .12: all of "
        "its seeds collapse. Nothing is held out. Other programs ran on the machine, so that speeds are rough.",
        commands=_six("five_plus_one"),
        figures=stream_figures,
    ),
    ResultSet(
        folder="continual-imagenet-lite",
        title="Pairs of classes of ImageNet, `lite`",
        text="Two classes of Tiny ImageNet are told apart in each of 50 tasks; a small convolutional network, SGD "
        "with momentum at .03, five seeds, real images. The score is the accuracy on held-out images. Plain SGD "
        "keeps .74 of a fresh network, while its online accuracy is far above a fresh one's: past pairs help it "
        "on the images that it trains on, and not on others. Layer normalisation keeps 1.00, L2 Init .99 and "
        "continual backprop .83, all shown better. Shrink and perturb, which is told of boundaries, wears the "
        "network down at its defaults until it tells nothing apart. That held-out accuracy falls, as is "
        "published for 2,000 pairs, cannot be told: it goes from .82 to .72, and seeds differ too much. A "
        "linear network has .69 at the end. Other programs ran on the machine, so that speeds are rough.",
        commands=(*_six("continual_imagenet"), "lopbench verify D1"),
        figures=stream_figures,
    ),
    ResultSet(
        folder="incremental-lite",
        title="More and more classes, `lite`",
        text="Five classes of Tiny ImageNet, then five more, up to fifty, 20 passes each; a small convolutional "
        "network, Adam at 1e-3, five seeds, real images. The score is the accuracy on held-out images, against "
        "networks that are retrained from scratch on the same classes. Plain Adam keeps .77 and goes on losing; "
        "at 3e-3, which tuning on the first task picks, it keeps .41. Layer normalisation keeps .96 and shrink "
        "and perturb, which is told of boundaries, .94: both are shown better. L2 Init (.84) and continual "
        "backprop (.79) are not. On the images it trains on every learner is far above a retrained network: "
        "what is lost here is generalisation alone. As published for CIFAR-100 and ResNet-18, plain learning "
        "ends below networks that are retrained. Other programs ran on the machine, so that speeds are rough.",
        commands=(
            *_six("incremental"),
            "lopbench run --scenario incremental --seeds 0-4 --method none --optimizer adam:lr=3e-3",
            "lopbench verify D6",
        ),
        figures=stream_figures,
    ),
    ResultSet(
        folder="permuted-text-lite",
        title="Permuted text, `lite`",
        text="The next characters of Shakespeare, whose alphabet is permuted anew in each of 60 tasks; a small "
        "transformer, Adam at 3e-3, five seeds, the real text. The score is the loss in nats; 0 is the best "
        "constant guess. Plain Adam keeps .61 of a fresh network, is .25 nats above it, and goes on losing. L2 "
        "Init keeps 1.01, though a fresh network has .95 with it, and shrink and perturb, which is told of "
        "boundaries, 1.25; what is above 1 is transfer. Both are shown better than plain Adam; continual "
        "backprop, .59, is not: few units are dead here. The network normalises its features already, so layer "
        "normalisation is refused. On text that was held out plain Adam keeps .86, and the order is the same. "
        "Other programs ran on the machine, so that speeds are rough.",
        commands=(
            "lopbench run --scenario permuted_text --seeds 0-4 --method none --method reset --method l2_init \\",
            "  --method cbp --method shrink_and_perturb",
        ),
        figures=stream_figures,
    ),
    ResultSet(
        folder="cartpole-lite",
        title="Continual CartPole, `lite`",
        text="Agents balance a pole on a cart, and at each of ten levels but the first what they sense is shifted by "
        "another constant; PPO, Adam at 1e-3, three layers of 64 units for policy and for value, 16 seeds. Scores are "
        "the mean return, and 0 is an agent that acts at random. Over levels 2 to 10 plain Adam keeps .57 of a fresh "
        "agent, where an earlier trial of the setting in another framework kept .59 with eight seeds. Layer "
        "normalisation keeps .94 and shrink and perturb, which is told of boundaries, .93: both are shown better. "
        "Continual backprop (.74) is not, for seeds collapse, and a test that knows of that has little power. L2 Init "
        "at its default keeps a fresh agent from learning (.47), and loses nothing of that. Other programs ran on the "
        "machine, so that speeds are rough.",
        commands=_six("cartpole", seeds="0-15"),
        figures=stream_figures,
    ),
    ResultSet(
        folder="warm-start-lite",
        title="Warm starts, `lite`",
        text="A tenth of 2,000 images of CIFAR-10, then two tenths, up to all of them, 20 passes each; a small "
        "convolutional network, Adam at 1e-3, five seeds, real images. The score is the accuracy on held-out images, "
        "against fresh networks on the same part. Plain Adam keeps .85 and loses a little with each part. Layer "
        "normalisation keeps .94, and shrink and perturb, which is told of boundaries, .88: both are shown better. "
        "Continual backprop (.84) and L2 Init (.82) are not. On the images it trains on every learner is far above a "
        "fresh network: what is lost here is generalisation alone. Other programs ran on the machine, so that speeds "
        "are rough.",
        commands=_six("warm_start"),
        figures=stream_figures,
    ),
    ResultSet(
        folder="slowly-changing-regression",
        title="Slowly-changing regression",
        text="Plain SGD loses plasticity at all three step sizes of Dohare et al. (2021, arXiv:2108.06325; 2024, "
        "Nature 632), the more the larger they are: a network of five units keeps .86 of a fresh one at .001, .70 at "
        ".003 and .58 at .01, and goes on losing. Continual backprop keeps .95, 1.05 and 1.10, and loses nothing over "
        "the stream; it is shown better than plain SGD at its best step size. A linear learner keeps .97 to 1.03. 30 "
        "seeds of a million samples each. There is no held-out score: fresh networks are at chance under the next slow "
        "bits.",
        commands=(
            "lopbench run --scenario slowly_changing_regression --profile full --seeds 0-29 --method none \\",
            "  --method cbp:utility=adaptable_contribution,accumulate=false --sweep lr=0.01,0.003,0.001",
            "lopbench run --scenario slowly_changing_regression --profile full --seeds 0-29 --architecture linear \\",
            "  --sweep lr=0.01,0.003,0.001",
        ),
        figures=regression_figures,
    ),
    ResultSet(
        folder="regression-activations",
        title="Slowly-changing regression: activations",
        text="Plain SGD at .01, 30 seeds of a million samples each. A network of five units loses plasticity "
        "whatever its activation: it keeps .87 of a fresh network under ELU, .78 under sigmoid, .70 under tanh, "
        ".60 under leaky ReLU, .58 under ReLU and .45 under swish. Continual backprop helps under tanh too, "
        ".90, which a thesis is said to deny. On the bit-flipping problem with the same target, a network keeps "
        ".57 where one bit flips and .58 where all of them are drawn anew, which these seeds do not tell apart. "
        "Plain SGD with ReLUs is in the set above.",
        commands=("for claim in D7-activations D18 D20; do lopbench verify $claim; done",),
        figures=activation_figures,
    ),
    ResultSet(
        folder="bitflip-recovery",
        title="Bit flipping: recovery",
        text="Networks of four widths learn plainly for 2.5 million samples; then continual backprop is turned on, or "
        "it is not: the paper's recovery experiment (Joudaki et al. 2025, Figs. B.1 and B.2), five seeds. In `full`, "
        "the bit-flipping problem as published, plain SGD keeps .31, .30, .38 and .48 of a fresh network at widths 5, "
        "10, 50 and 100; with continual backprop networks that had come down to .38, .24, .29 and .47 recover to 1.15, "
        "1.13, 1.04 and 1.01. At width 100 that is at the ceiling, and only there and at width 10 is the difference "
        "shown: seeds that collapse leave the test of five seeds little power. `authors` is what the authors' code "
        "measures: its target, a probe of all samples, units before their ReLU. There plain SGD ends with effective "
        "ranks of 2.8, 4.3, 7.2 and 7.7 and duplicates of .04, .10, .42 and .51 where Fig. B.2 has 2.9, 4.5, 7.4, 7.65 "
        "and .01, .09, .38, .53. 98 to 100% of these units are dead: what the figure calls duplicates are dead units, "
        "seen before the ReLU; after it hardly one is a duplicate.",
        commands=(
            "for profile in full authors; do for width in 5 10 50 100; do",
            "  lopbench run --scenario bitflip --profile $profile --seeds 0-4 \\",
            "    --architecture online_mlp:width=$width --from 0.5 \\",
            "    --method none --method cbp:utility=adaptable_contribution,accumulate=false",
            "done; done",
        ),
        figures=recovery_figures,
        papers=("B.1", "B.2", "B.1-paper", "B.2-paper"),
    ),
    ResultSet(
        folder="cloning-lite-mlp",
        title="Cloning, `lite`, `mlp`",
        text="A clone under plain SGD, or Adam, stays a clone and learns what its base learns: it scores 1.00. A "
        "little gradient noise lets it leave and use its width, be it in a single step (`decay=0`): 1.09 to "
        "1.12, the more the longer it lasts, up to `decay=0.999`. Noise that does not decay, or is five times as "
        "large for as long, leaves the clone below its base (.90 and .85). The sign disagrees with the paper, "
        "where after five times as many epochs both have less training loss than the base (.72 and .30 against "
        ".76, Figs. B.8 and B.9). Dropout lets it leave too, 1.10 (Joudaki et al. 2025, Figs. 2.1, B.7 to B.9, "
        "B.12 and B.13). No clone comes up to a fresh network as wide (`wide`, .91 at most), and none has more "
        "than its base on held-out images but by .03: what is gained is training accuracy. Three seeds, so that "
        "nothing is ranked; 900 images a class, and a fifth of the paper's epochs.",
        commands=(
            'run="lopbench run --scenario cloning --data cifar10 --seeds 0-2"',
            "$run --method none --optimizer sgd:lr=0.1 --optimizer adam:lr=1e-3",
            "$run --method dropout:p=0.1 --method dropout:p=0.2 --method noisy_sgd:scale=0.05,decay=0.999 \\",
            "  --method noisy_sgd:scale=0.02,decay=0.9 --method noisy_sgd:scale=0.05,decay=0.9",
            "for decay in 0 0.9 0.99 0.999 1.0; do $run --method noisy_sgd:decay=$decay; done",
        ),
        figures=cloning_figures,
        papers=("B.7", "B.8", "B.9", "B.12", "B.13"),
    ),
    ResultSet(
        folder="cloning-short-mlp",
        title="Cloning, fifty epochs, `mlp`",
        text="The paper's contrast on 2,000 images of CIFAR-10 (Joudaki et al. 2025, Theorem 2.1 and Fig. 2.1): a "
        "clone under plain SGD stays a clone, one under noisy SGD or dropout does not. Three seeds, so that "
        "nothing is ranked.",
        commands=("lopbench verify D14",),
        figures=lambda frame, records: {"clones-and-bases": cloning_curves(continual(records))},
        papers=("2.1",),
    ),
)


if __name__ == "__main__":
    main()
