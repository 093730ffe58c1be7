"""How runs are held against other processes, by locks or by claims, and what goes wrong with either."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from lopbench.core.errors import ResultsError
from lopbench.results.record import find_records, is_recorded
from lopbench.runner import claims, groups, heart, holder, session, study
from lopbench.runner.claims import BusyError, Claim, Claims, claimed_runs
from lopbench.runner.heart import Heart
from lopbench.runner.holder import Holder, agreed
from lopbench.runner.report import Quiet
from lopbench.runner.status import status
from lopbench.runner.worker import Report, work
from lopbench.runner.worklist import Worklist, remove

TINY = "tinyimagenet40:tasks=3,steps_per_task=4,classes_per_task=2,images_per_class=20,resolution=8,batch_size=16"


@pytest.fixture
def planned(make_study, monkeypatch):
    """One run of 12 steps."""
    monkeypatch.setattr(session, "LOOK_S", 0.0)
    made = make_study(scenario=TINY, methods=["none"])
    return replace(made, pending=made.specs, steps=made.steps[:1])


@pytest.fixture
def clock(monkeypatch):
    """Return a list whose last value is the seconds on the clock of who looks at others."""
    now = [0.0]
    monkeypatch.setattr(claims.time, "monotonic", lambda: now[-1])
    return now


class Worker:
    """The claims of a worker in a folder, which beats when it is told to."""

    def __init__(self, results, name):
        self.heart = Heart(results / ".partial" / "workers" / f"{name}.json", dict)
        self.heart.beat()
        self.claims = Claims(results, self.heart)
        self._held = ExitStack()

    def takes(self, run_id):
        try:
            self._held.enter_context(self.claims.held(run_id))
        except BusyError:
            return False
        return True

    def lets_go(self):
        self._held.close()


@pytest.fixture
def workers(tmp_path, monkeypatch):
    """Return two workers of one folder, as on two machines: their process ids mean nothing to each other."""
    one, other = Worker(tmp_path, "one"), Worker(tmp_path, "other")
    for worker in (one, other):
        worker.claims._claim = replace(worker.claims._claim, machine=worker.heart.name)
    return one, other


def claim_of(results, run_id="a"):
    return Claim.read(results / ".partial" / f"{run_id}.claim")


def left(results):
    return sorted(str(path.relative_to(results / ".partial")) for path in (results / ".partial").rglob("*"))


# -- claims


def test_a_claim_is_one_worker_s_until_it_lets_go(tmp_path, workers):
    one, other = workers
    assert one.takes("a")
    assert not other.takes("a")
    assert other.takes("b")
    assert one.claims.are_valid
    assert other.claims.are_valid
    assert claim_of(tmp_path).worker == "one"
    one.lets_go()
    assert other.takes("a")
    other.lets_go()
    assert [name for name in left(tmp_path) if name.endswith(".claim")] == ["workers/one.claim", "workers/other.claim"]


def test_a_worker_that_shows_no_sign_of_life_for_a_minute_is_taken_over(tmp_path, workers, clock):
    one, other = workers
    assert one.takes("a")
    for seconds in (0, 59.9):  # since it was looked at first
        clock.append(seconds)
        assert not other.takes("a")
    one.heart.beat()
    for seconds in (60, 119.9):
        clock.append(seconds)
        assert not other.takes("a")
    clock.append(120)
    assert other.takes("a")
    assert claim_of(tmp_path).worker == "other"
    assert not one.claims.are_valid
    one.lets_go()
    assert other.claims.are_valid  # it removed nothing that is not its own


def test_a_worker_without_a_file_is_dead_after_a_minute(workers, clock):
    one, other = workers
    assert one.takes("a")
    one.heart.path.unlink()
    assert not other.takes("a")
    clock.append(60)
    assert other.takes("a")


def test_a_claim_counts_as_held_while_its_worker_s_file_is_fresh(tmp_path, workers):
    one, _ = workers
    assert one.takes("a")
    assert claimed_runs(tmp_path) == {"a"}
    (running,) = status(tmp_path)
    assert (running.state, running.run_id) == ("running", "a")
    os.utime(one.heart.path, (0, 0))
    assert claimed_runs(tmp_path) == set()
    one.heart.path.unlink()
    assert claimed_runs(tmp_path) == set()


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"worker": "../../x"}', b"\xff", b"[" * 4000])
def test_what_is_no_claim_is_removed_after_a_minute(tmp_path, workers, clock, content):
    (tmp_path / ".partial" / "a.claim").write_bytes(content)
    assert not workers[0].takes("a")
    clock.append(60)
    assert workers[0].takes("a")


def test_a_claim_of_a_process_that_ended_on_this_machine_is_taken_over_at_once(tmp_path):
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], stdout=subprocess.PIPE, check=True)
    one, other = Worker(tmp_path, "one"), Worker(tmp_path, "other")
    assert one.takes("a")
    assert not other.takes("a")  # its process, which is this one, lives
    one.claims._own.unlink()
    one.claims._claim = replace(one.claims._claim, pid=int(gone.stdout))
    assert one.takes("b")
    assert other.takes("b")
    assert not other.takes("a")


def test_of_many_that_take_over_one_stays(tmp_path, workers, monkeypatch):
    monkeypatch.setattr(heart, "LEASE_S", 0.0)
    one, _ = workers
    assert one.takes("a")
    others = [Worker(tmp_path, f"observer{n}") for n in range(8)]
    for each in others:
        assert not each.takes("a")  # sees it for the first time
    monkeypatch.setattr(heart, "LEASE_S", 60.0)
    for each in others:
        each.claims._seen = {"one": (1, -1e9)}
    barrier, won = threading.Barrier(len(others)), []

    def race(worker):
        barrier.wait()
        if worker.takes("a"):
            won.append(worker)

    threads = [threading.Thread(target=race, args=[each]) for each in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # One may come while another puts back what it took by mistake; who held that then sees that it is not its own.
    (winner,) = (each for each in won if each.claims.are_valid)
    assert claim_of(tmp_path).worker == winner.heart.name
    assert not list((tmp_path / ".partial" / "workers").glob("*.taken"))


def test_what_was_taken_by_mistake_is_put_back(tmp_path, workers, monkeypatch):
    one, other = workers
    third = Worker(tmp_path, "third")
    assert one.takes("a")
    stale = claim_of(tmp_path)
    one.lets_go()
    assert third.takes("a")
    # What it read was the claim of the first, and when it took it away the third had claimed the run.
    assert not other.claims._remove(tmp_path / ".partial" / "a.claim", stale)
    assert third.claims.are_valid
    assert not list((tmp_path / ".partial" / "workers").glob("*.taken"))


def test_a_link_that_is_made_and_told_to_have_failed_is_held(tmp_path, workers, monkeypatch):
    link = os.link

    def lost(*arguments, **options):
        link(*arguments, **options)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))

    monkeypatch.setattr(os, "link", lost)
    assert workers[0].takes("a")
    assert workers[0].claims.are_valid
    assert not workers[1].takes("a")
    assert agreed(tmp_path, "claims") == "claims"


def test_a_removal_that_is_done_and_told_to_have_failed_is_done(tmp_path, workers, clock, monkeypatch):
    rename = Path.rename

    def lost(path, target):
        rename(path, target)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    assert workers[0].takes("a")
    assert not workers[1].takes("a")
    clock.append(60)
    monkeypatch.setattr(Path, "rename", lost)
    assert workers[1].takes("a")


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP])
def test_a_file_system_without_links_has_locks_and_no_claims(planned, monkeypatch, code):
    def link(*arguments):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(ResultsError, match=r"has no links \(.*; choose a folder on another file system") as raised:
        study.execute(planned, locks="claims")
    assert os.strerror(code) in str(raised.value)
    assert study.execute(planned) == []
    assert not (planned.results / ".partial").exists()


# -- signs of life


def test_a_heart_beats_in_a_thread_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(heart, "BEAT_S", 0.001)
    alive = Heart(tmp_path / "workers" / "a.json", lambda: {"state": "running"})
    with alive:
        while json.loads(alive.path.read_text())["beats"] < 3:
            time.sleep(0.001)
        assert alive.is_beating
    beats = json.loads(alive.path.read_text())["beats"]
    assert json.loads(alive.path.read_text())["state"] == "running"
    time.sleep(0.01)
    assert json.loads(alive.path.read_text())["beats"] == beats


def test_a_holder_goes_on_while_its_file_cannot_be_written_and_stops_after_a_minute(workers, clock, monkeypatch):
    one, _ = workers

    def fails(*arguments):
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    one.heart.beat()
    assert one.takes("a")
    replaced = Path.replace
    monkeypatch.setattr(Path, "replace", fails)
    assert not one.heart.beat()
    clock.append(59)
    assert one.claims.are_valid
    clock.append(60)
    assert not one.claims.are_valid
    monkeypatch.setattr(Path, "replace", replaced)
    assert one.claims.are_valid  # it can show again that it lives, and nobody was faster


# -- how runs are held in a folder


def test_the_first_in_a_folder_says_how_runs_are_held_and_the_others_obey(tmp_path):
    assert agreed(tmp_path, "claims") == "claims"
    assert agreed(tmp_path, "flock") == "claims"
    assert left(tmp_path) == ["locks"]


def test_a_way_of_a_newer_lopbench_is_told(tmp_path):
    agreed(tmp_path, "flock")
    (tmp_path / ".partial" / "locks").write_text("leases")
    with pytest.raises(ResultsError, match=r"does not know .*'leases'.*use the one that wrote it"):
        agreed(tmp_path, "flock")


@pytest.mark.parametrize("locks", ["flock", "claims"])
def test_study_leaves_nothing_behind_however_runs_are_held(planned, locks):
    seen = []

    class Looks(Quiet):
        def advanced(self, *arguments):
            seen.append((agreed(planned.results, "flock"), {each.state for each in status(planned.results)}))

    assert study.execute(planned, Looks(), locks=locks) == []
    assert set(map(str, seen)) == {str((locks, {"running"}))}
    assert not (planned.results / ".partial").exists()


def test_a_plain_process_obeys_claims_and_shows_that_it_is_alive(planned):
    seen = []
    (planned.results / ".partial" / "studies").mkdir(parents=True)
    (planned.results / ".partial" / "studies" / "elsewhere-1.json").touch()  # workers of another machine are at it
    agreed(planned.results, "claims")

    class Looks(Quiet):
        def advanced(self, *arguments):
            seen.append(left(planned.results))

    assert study.execute(planned, Looks()) == []
    (run_id,) = {spec.run_id for spec in planned.pending}
    assert f"{run_id}.claim" in seen[0]
    assert f"{run_id}.lock" not in seen[0]
    assert len([name for name in seen[0] if name.startswith("workers/") and name.endswith(".json")]) == 1
    assert left(planned.results) == ["locks", "studies", "studies/elsewhere-1.json"]


def test_a_worker_claims_in_its_own_name_as_its_list_of_work_says(make_study, monkeypatch):
    planned = make_study(scenario="bitflip:samples=60,m=8,f=5,T=10,steps_per_task=20", architecture=None, metrics=[])
    path, held = Worklist.of([planned], data_dir=None, locks="claims").write(), []
    take = Claims._take
    monkeypatch.setattr(Claims, "_take", lambda self, path: held.append(self._claim.worker) or take(self, path))
    assert work(path, device="cpu", stop=SimpleNamespace(armed=nullcontext, insist=lambda: None, code=None)) == 0
    assert {record.outcome for record in find_records(planned.results)} == {"completed"}
    (told,) = (planned.results / ".partial" / "workers").iterdir()  # its claim is gone
    assert set(held) == {Report.read(told).name}
    assert Report.read(told).state == "done"
    told.unlink()
    told.parent.rmdir()
    remove(path)
    assert not (planned.results / ".partial").exists()


def test_a_process_gives_way_where_another_way_was_chosen_meanwhile(tmp_path, planned, monkeypatch):
    answers = iter(["flock", "claims"])
    monkeypatch.setattr(holder, "agreed", lambda *arguments: next(answers))
    with pytest.raises(BusyError), Holder(tmp_path).claimed(planned.pending):
        pass


def test_who_waits_at_claims_waits_longer(planned, monkeypatch):
    waited = []
    with ExitStack() as held:

        def sleep(seconds):
            waited.append(seconds)
            held.close()

        monkeypatch.setattr(groups.time, "sleep", sleep)
        held.enter_context(held_by_claims(planned))
        assert study.execute(planned) == []
    assert waited == [groups.LOOK_AGAIN_AT_CLAIMS_S]
    assert is_recorded(planned.results, planned.pending[0])


@contextmanager
def held_by_claims(planned):
    with Holder(planned.results, locks="claims") as other, other.claimed(planned.pending):
        yield other


# -- locks that do not work


REFUSALS = [errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EIO]


@pytest.mark.parametrize("code", REFUSALS, ids=errno.errorcode.get)
def test_who_comes_first_claims_where_locks_are_refused(planned, monkeypatch, code):
    def flock(*arguments):
        raise OSError(code, os.strerror(code))

    class Looks(Quiet):
        def started(self, *arguments):
            seen.append((agreed(planned.results, "flock"), {each.state for each in status(planned.results)}))

    seen = []
    monkeypatch.setattr("fcntl.flock", flock)
    assert study.execute(planned, Looks()) == []
    assert seen == [("claims", {"running"})]
    assert len(find_records(planned.results)) == 1
    assert not (planned.results / ".partial").exists()


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("code", REFUSALS, ids=errno.errorcode.get)
def test_locks_that_are_refused_where_there_is_no_other_way_are_one_true_sentence(planned, monkeypatch, code, links):
    def flock(*arguments):
        raise OSError(code, os.strerror(code))

    def link(*arguments):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    if links:
        studies = planned.results / ".partial" / "studies"
        studies.mkdir(parents=True)
        (studies / "elsewhere-1.json").touch()  # another machine is at work, which has locks
        agreed(planned.results, "flock")
    else:
        monkeypatch.setattr(os, "link", link)
    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(ResultsError, match="gives no locks") as raised:
        study.execute(planned)
    assert os.strerror(code) in str(raised.value)
    assert "Make room" not in str(raised.value)


def test_locks_that_are_granted_to_all_end_in_a_right_record(make_study, planned, record_of, tmp_path, monkeypatch):
    whole = replace(make_study(tmp_path / "whole", scenario=TINY, methods=["none"]), pending=planned.pending)
    assert study.execute(whole) == []
    monkeypatch.setattr("fcntl.flock", lambda *arguments: None)

    class Another(Quiet):
        """Does the same run in the midst of it."""

        def __init__(self):
            self.saw = 0

        def advanced(self, *arguments):
            self.saw += 1
            if self.saw == 5:
                assert study.execute(planned) == []

    assert study.execute(planned, Another(), checkpoint_s=0.0) == []
    (spec,) = planned.pending
    assert record_of(planned, spec).measurements_digest == record_of(whole, spec).measurements_digest
    assert not (planned.results / ".partial").exists()


# -- runs that are taken over


class TakesOver(Quiet):
    """Another process takes the run over at the third look, and does it up to a number of looks, None for all."""

    def __init__(self, planned, looks):
        self.planned, self.looks, self.saw, self.said = planned, looks, 0, []

    def note(self, message):
        self.said.append(message)

    def advanced(self, *arguments):
        self.saw += 1
        if self.saw == 3:
            path = next(self.planned.results.glob(".partial/*.claim"))
            with Holder(self.planned.results) as other:
                path.unlink()
                if self.looks is None:
                    assert study.execute(self.planned) == []
                else:
                    outer = signal.signal(signal.SIGINT, signal.default_int_handler)  # this one is for the other
                    with pytest.raises(KeyboardInterrupt):
                        study.execute(self.planned, Interrupts(self.looks))
                    signal.signal(signal.SIGINT, outer)
                assert other.is_valid


class Interrupts(Quiet):
    def __init__(self, looks):
        self.looks = looks

    def advanced(self, *arguments):
        self.looks -= 1
        if self.looks < 0:
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("looks", [None, 0, 5])
def test_who_is_taken_over_stops_without_a_word_and_the_study_is_done(
    make_study, planned, record_of, tmp_path, monkeypatch, looks
):
    monkeypatch.setattr(groups, "LOOK_AGAIN_AT_CLAIMS_S", 0.0)
    whole = replace(make_study(tmp_path / "whole", scenario=TINY, methods=["none"]), pending=planned.pending)
    assert study.execute(whole) == []
    other = TakesOver(planned, looks)
    assert study.execute(planned, other, checkpoint_s=0.0, locks="claims") == []
    assert other.said == []
    (spec,) = planned.pending
    record = record_of(planned, spec)
    assert record.measurements_digest == record_of(whole, spec).measurements_digest
    if looks is None:
        assert other.saw == 3  # it saved nothing and published nothing since
    assert not (planned.results / ".partial").exists()
