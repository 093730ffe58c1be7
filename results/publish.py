"""Derives the published tables and figures, and the README's results, from the run records in this folder.

Run ``python results/publish.py`` after adding runs; a test keeps what is committed equal to what the records give.
"""

import math
from pathlib import Path

import pandas as pd

from lopbench.results.leaderboard import leaderboard, to_csv
from lopbench.results.plots import curves, retention_vs_learning_rate, save
from lopbench.results.record import find_records
from lopbench.results.statistics import INTERVAL_METHOD

HERE = Path(__file__).resolve().parent
README = HERE.parent / "README.md"
BEGIN, END = "<!-- results -->", "<!-- /results -->"
#: The result set that the README shows.
SHOWN = HERE / "tinyimagenet40-lite-mlp"


def main() -> None:
    """Bring everything up to date."""
    for folder in sets():
        frame = leaderboard(folder)
        to_csv(frame, folder / "leaderboard.csv")
        figures(folder, frame)
    README.write_text(with_results(README.read_text()))


def sets() -> list[Path]:
    """Return the folders of the published result sets."""
    return sorted(path.parent for path in HERE.glob("*/runs"))


def with_results(text: str) -> str:
    """Return the README with its results as the records give them."""
    head, _, rest = text.partition(BEGIN)
    tail = rest.partition(END)[2]
    return f"{head}{BEGIN}\n{section(leaderboard(SHOWN))}{END}{tail}"


def figures(folder: Path, frame: pd.DataFrame) -> None:
    """Draw the figures of one result set beside its records."""
    sweep = frame.groupby("method").filter(lambda rows: rows["lr"].nunique() > 1)
    if not sweep.empty:
        save(retention_vs_learning_rate(sweep), folder / "retention-vs-learning-rate.svg")
    main_rows = main_protocol(frame)
    records = find_records(folder)
    wanted = set(main_rows["protocol_id"])
    chosen = [r for r in records if r.spec.kind == "continual" and r.spec.protocol_id in wanted]
    references = {r.spec.reference().run_id for r in chosen}
    chosen += [r for r in records if r.run_id in references]
    save(curves(chosen, "online_accuracy"), folder / "online-accuracy.svg")


def main_protocol(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the protocol with the most methods."""
    counts = frame.groupby("protocol_id")["method"].nunique()
    rows: pd.DataFrame = frame[frame["protocol_id"] == counts.idxmax()]
    return rows


def section(frame: pd.DataFrame) -> str:
    """Return the README's results: the table of the main protocol, the table over learning rates, the figures."""
    rows = main_protocol(frame)
    first = rows.iloc[0]
    folder = SHOWN.relative_to(HERE.parent)
    lines = [
        f"`{first['scenario']}`, profile `{first['profile']}`, architecture `{first['architecture']}`, "
        f"`{first['optimizer']}`, {rows['seeds'].min()} seeds, data `{first['data']}` "
        "(half of the training images of Tiny ImageNet).",
        f"Protocol `{first['protocol_id']}`. 1 is a fresh network, 0 is chance; {INTERVAL_METHOD}. "
        "Speed was taken while several runs shared two cores, and is good for no more than its first digit.",
        "",
        "| method | track | retention | held-out | self | lifetime online | late/early | speed | memory |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for _, row in rows.iterrows():
        values = (row[k] for k in ("heldout_retention", "self_retention", "lifetime_online", "late_early"))
        costs = (row[k] for k in ("speed", "memory"))
        numbers = " | ".join(number(value) for value in (*values, *costs))
        lines.append(f"| `{row['method']}` | {row['track']} | {with_interval(row)} | {numbers} |")
    sweep = frame.groupby("method").filter(lambda group: group["lr"].nunique() > 1)
    rates, seeds = sorted(sweep["lr"].unique()), sweep["seeds"].min()
    lines += [
        "",
        f"The learning rate sets the size of the loss (retention, with its interval; {seeds} seeds or more):",
        "",
        "| method | " + " | ".join(f"Adam {rate:g}" for rate in rates) + " |",
        "|---|" + "---|" * len(rates),
    ]
    for method, group in sweep.groupby("method", sort=False):
        by_rate = {row["lr"]: with_interval(row) for _, row in group.iterrows()}
        lines.append(f"| `{method}` | " + " | ".join(by_rate.get(rate, "-") for rate in rates) + " |")
    lines += [
        "",
        f"![Plasticity retention over the learning rate]({folder}/retention-vs-learning-rate.svg)",
        "",
        f"![Online accuracy over the tasks]({folder}/online-accuracy.svg)",
        "",
    ]
    return "\n".join(lines)


def number(value: float) -> str:
    """Return a number as tables show it."""
    return "-" if math.isnan(value) else f"{value:.2f}"


def with_interval(row: "pd.Series[float]") -> str:
    """Return a retention with its interval."""
    low, high = row["retention_low"], row["retention_high"]
    return number(row["retention"]) + ("" if math.isnan(low) else f" [{low:.2f}, {high:.2f}]")


if __name__ == "__main__":
    main()
