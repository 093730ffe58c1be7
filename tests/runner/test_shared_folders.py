"""A results folder that two machines share: two mounts of one folder, whose locks do not reach each other."""

import os
import random
import select
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from lopbench.results.record import find_records
from lopbench.runner.holder import agreed

SEEDS, LOOKS = 6, 6  # a look at the end of each task
PLAN = {"seeds": [*range(SEEDS)], "metrics": []}
KILLS = 3
#: Workers that are impatient, so that a test need not wait for a minute.
SHORT = {"lease_s": 1.5, "beat_s": 0.2, "look_again_s": 0.1}


def digests(results):
    """Return what was measured, by run; no run stands there twice."""
    records = find_records(results)
    found = {record.run_id: record.measurements_digest for record in records}
    assert len(found) == len(records)
    return found


@pytest.fixture(scope="module")
def serial(server, tmp_path_factory):
    """Return what the runs measure in one process, in a folder that nobody shares."""
    results = tmp_path_factory.mktemp("serial")
    assert server.run(results, plan=PLAN) == 0
    return digests(results)


@pytest.fixture
def mounts(tmp_path):
    """Return two mounts of one folder."""
    if shutil.which("bindfs") is None or not os.access("/dev/fuse", os.W_OK):
        pytest.skip("needs bindfs and /dev/fuse")
    folder, made = tmp_path / "folder", []
    folder.mkdir()
    try:
        for name in ("one", "other"):
            (tmp_path / name).mkdir()
            done = subprocess.run(["bindfs", folder, tmp_path / name], capture_output=True, text=True)
            if done.returncode:
                pytest.skip(f"no right to mount: {done.stderr.strip()}")
            made.append(tmp_path / name)
        yield made
    finally:
        for each in made:
            subprocess.run(["fusermount", "-u", "-z", each], check=True)


def left_over(results):
    return [*Path(results).rglob(".*")]


class Machines:
    """Starts the study on mounts, each process as on a machine of its own."""

    def __init__(self, server):
        self._server, self._count = server, 0

    def start(self, results, **request):
        self._count += 1
        options = {"plan": PLAN, "locks": "claims", "machine": f"machine {self._count}", **request}
        return self._server.start(results, **options)

    def wait(self, child):
        return self._server.wait(child)

    def tidy(self, results, *, plan):
        """Let a process find that all is done, and remove what others left."""
        assert self._server.run(results, plan=plan) == 0


@pytest.fixture
def machines(server):
    return Machines(server)


@pytest.mark.parametrize("locks", ["claims", "flock"])
def test_two_machines_share_the_runs_of_a_study(machines, serial, mounts, locks):
    options = {"look_s": 3600.0, "wait_s": 0.03, "look_again_s": 0.1}
    started = [machines.start(mount, locks=locks, **options) for mount in mounts]
    seen = []
    for _, pulse in started:
        with pulse:
            seen.append(len(pulse.readall()))
    assert [machines.wait(child) for child, _ in started] == [0, 0]
    assert digests(mounts[0]) == serial
    if locks == "claims":
        assert sum(seen) == SEEDS * LOOKS  # no run was trained twice
        assert min(seen) > 0
        assert left_over(mounts[0]) == []


@pytest.mark.slow
def test_machines_that_die_are_replaced_and_their_runs_taken_over(machines, serial, mounts, request):
    draws = random.Random(0)
    kills = request.config.getoption("--kills") or KILLS
    few = {"plan": {**PLAN, "seeds": [0, 1, 2]}}
    options = {**few, **SHORT, "look_s": 0.0, "checkpoint_s": 0.05}
    results, killed = mounts[0], 0
    while killed < kills:
        started = [machines.start(mount, **options) for mount in mounts]
        pulses = [pulse for _, pulse in started]
        victim = draws.randrange(2)
        looks = draws.randint(1, 60)
        while pulses and looks:
            for pulse in select.select(pulses, [], [])[0]:
                read = pulse.read(1)
                if not read:
                    pulses.remove(pulse)
                elif pulse is started[victim][1]:
                    looks -= 1
        if not looks:
            os.kill(started[victim][0], signal.SIGKILL)
            killed += 1
        for _, pulse in started:
            with pulse:
                pulse.readall()
        # The other one has done the rest, that of the dead one too.
        codes = [machines.wait(child) for child, _ in started]
        assert codes[1 - victim] == 0
        assert codes[victim] == (0 if looks else -signal.SIGKILL)
        found = digests(results)
        assert len(found) == 3
        assert found.items() <= serial.items()
        machines.tidy(results, **few)
        assert left_over(results) == []
        for mount in mounts:
            assert digests(mount) == found
        shutil.rmtree(results / "runs")


@pytest.mark.parametrize("is_done", [False, True])
def test_a_machine_that_sleeps_is_taken_over_and_does_no_harm_when_it_wakes(machines, serial, mounts, is_done):
    plan = {"plan": {**PLAN, "seeds": [0]}, "look_s": 0.0, "checkpoint_s": 0.0, **SHORT}
    sleeper, pulse_one = machines.start(mounts[0], wait_s=0.05, **plan)
    with pulse_one:
        for _ in range(5):
            assert pulse_one.read(1)
        os.kill(sleeper, signal.SIGSTOP)
        while select.select([pulse_one], [], [], 0)[0]:
            pulse_one.read(1)
        other, pulse_other = machines.start(mounts[1], wait_s=0.02, **plan)
        with pulse_other:
            assert pulse_other.read(1)  # it has taken over
            assert agreed(mounts[1], "flock") == "claims"
            if is_done:
                pulse_other.readall()
            os.kill(sleeper, signal.SIGCONT)
            after = len(pulse_one.readall())
            pulse_other.readall()
    assert [machines.wait(sleeper), machines.wait(other)] == [0, 0]
    assert after <= 1  # it has left the run alone when it would have saved
    (record,) = find_records(mounts[0])
    assert record.status["sessions"] == 2
    assert serial[record.run_id] == record.measurements_digest
    machines.tidy(mounts[0], plan=plan["plan"])
    assert left_over(mounts[0]) == []
