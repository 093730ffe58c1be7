import copy
import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from bench_toys import PEAK_BYTES

from lopbench.core.spec import RunSpec
from lopbench.results.pack import pack, unpack
from lopbench.results.pairs import Entrant
from lopbench.results.ranks import rank_ranges

PUBLISHED = Path(__file__).parents[2] / "results" / "tinyimagenet40-lite-mlp" / "runs.lopbench"

#: In a process of its own, as on the command line: the imports and the peak of the memory count.
CODE = f"""
import resource, sys
from lopbench.results.leaderboard import board
made = board(sys.argv[1])
assert not made.problems, made.problems[0]
used = resource.getrusage(resource.RUSAGE_SELF)
print(len(made.rows), {PEAK_BYTES}, used.ru_utime + used.ru_stime)
"""


@pytest.fixture(scope="module")
def count(tiny):
    """Return how many records there are."""
    return 20 if tiny else 10_000


@pytest.fixture(scope="module")
def many(tmp_path_factory, count):
    """Return a results folder of many records: those that are published, under other rates."""
    root, published = tmp_path_factory.mktemp("many"), tmp_path_factory.mktemp("published")
    unpack(PUBLISHED, published)
    (root / "runs").mkdir()
    originals = {path: json.loads((path / "spec.json").read_text()) for path in sorted(published.glob("runs/*"))}
    originals = {path: spec for path, spec in originals.items() if spec["optimizer"]["fields"]["lr"] == 0.003}
    made = 0
    for number in range(count):
        for path, value in originals.items():
            changed = copy.deepcopy(value)
            changed["optimizer"]["fields"]["lr"] += number * 1e-6
            spec = RunSpec.from_json(changed)
            target = root / "runs" / spec.directory_name
            if target.exists():
                continue
            shutil.copytree(path, target)
            (target / "spec.json").write_text(json.dumps(spec.recorded(), indent=2, sort_keys=True) + "\n")
            made += 1
            if made == count:
                return root
    return root


@pytest.mark.parametrize("packed", [False, True], ids=["loose", "packed"])
def test_leaderboard_of_many_records(benchmark, report, many, count, packed, tmp_path):
    assert sum(1 for _ in (many / "runs").iterdir()) == count
    place = pack(many, output=tmp_path / "many.lopbench").path if packed else many

    def run():
        done = subprocess.run([sys.executable, "-c", CODE, str(place)], capture_output=True, text=True, check=True)
        return [float(text) for text in done.stdout.split()]

    rows, peak, cpu_s = benchmark.pedantic(run, rounds=1, warmup_rounds=0)
    assert rows > count / 100
    kind, aim = ("packed", 3.0) if packed else ("loose", 10.0)
    report(f"leaderboard of {count:,} {kind} records", cpu_s, unit="s", target=aim, note="processor time, with imports")
    report("its peak memory", peak / 2**30, unit="GiB", target=1.0)
    if benchmark.stats is not None:
        report("its wall time", benchmark.stats.stats.min, unit="s", target=aim)
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 >= peak


@pytest.mark.parametrize("collapse", [0.0, 0.3])
def test_ranks_of_many_rows(benchmark, report, collapse):
    rng = np.random.default_rng(0)
    shape = (300, 10)
    values = (1 + 0.1 * rng.standard_normal(shape)) * (rng.random(shape) >= collapse)
    entrants = [Entrant(dict(enumerate(row))) for row in values.tolist()]
    ranks = benchmark(lambda: rank_ranges(entrants, range(10)))
    assert all(each is not None for each in ranks)
    if benchmark.stats is not None:
        report(f"ranks of 300 rows, {collapse:.0%} collapsed", benchmark.stats.stats.median, unit="s", target=1.0)
