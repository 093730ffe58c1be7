"""Runs that have no record yet: who is at them, and what they left behind when they were stopped.

Below the results folder, ``.partial/<id>/`` holds checkpoints and log of one run, or of several that are replicas of
one program, and ``members.json`` with their specs in the order of the replicas. Which process is at a run, `claims`
knows.
"""

import errno
import json
import shutil
from collections.abc import Container, Sequence
from contextlib import suppress
from pathlib import Path

from lopbench.core.errors import LopbenchError, ResultsError
from lopbench.core.reading import MOST_JSON_BYTES, is_free, read_regular
from lopbench.core.spec import RunSpec, digest
from lopbench.results.record import is_recorded, remove_cut_short
from lopbench.results.schema import problem
from lopbench.runner.heart import CLAIM

#: Names of the files in a folder.
LOG, MEMBERS = "log.txt", "members.json"
_NEW_MEMBERS = f"{MEMBERS}.new"

#: Name of the folder that holds them, and of the file in it that says how runs are held.
PARTIAL, LOCKS = ".partial", "locks"

#: Ending of the locks by which runs are held, where they are not held by claims.
LOCK = ".lock"

#: Ending of the file that counts how often a run was begun.
ATTEMPTS = ".attempts"

#: How often something is tried that another process may undo at the same moment. What fails more often is no chance: a
#: link that leads nowhere, say, is there for who makes a file and not for who reads it.
TRIES = 100


def folder_of(results: Path, specs: Sequence[RunSpec]) -> Path:
    """Return where ``specs``, as replicas in this order, keep what they need to resume: a single one by its run id."""
    ids = [spec.run_id for spec in specs]
    return results / PARTIAL / (ids[0] if len(ids) == 1 else digest(ids, 16))


def make_folder(results: Path, specs: Sequence[RunSpec]) -> Path:
    """Return the folder of ``specs``, made if it is not there.

    Raises:
        ResultsError: If it cannot be written.
    """
    folder = folder_of(results, specs)
    try:
        for _ in range(TRIES):
            folder.mkdir(parents=True, exist_ok=True)
            for name in (LOG, MEMBERS):
                if not is_free(folder / name):
                    raise OSError(errno.EEXIST, f"{folder / name} is no file")
            if (folder / MEMBERS).exists():
                return folder
            with suppress(FileNotFoundError):  # another process has just tidied up
                partial = folder / _NEW_MEMBERS
                partial.write_text(json.dumps([spec.to_json() for spec in specs]))
                partial.replace(folder / MEMBERS)
        raise OSError(errno.EEXIST, f"{folder / _NEW_MEMBERS} is no file")
    except OSError as error:
        raise unwritable(results, error) from error


def remove_folder(folder: Path) -> None:
    """Remove a folder and, last of what is in it, whose it is: what a kill leaves of it, the next process knows.

    A link to a folder, which is not ours, stays.
    """
    if folder.is_symlink():
        return
    with suppress(OSError):
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != MEMBERS:
                path.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)  # what stays behind is only untidy


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, of all sessions, in the order of their names."""
    return sorted(folder.glob(checkpoint_name("*")))


def checkpoint_name(session: str) -> str:
    """Return the name of the checkpoint of a session."""
    return f"checkpoint-{session}.safetensors"


def resumable(results: Path, specs: Sequence[RunSpec]) -> list[list[RunSpec]]:
    """Return the groups that were stopped and whose unfinished members are all among ``specs``.

    A group comes whole, with those of its members that have a record by now, and no run comes twice. Folders without a
    checkpoint are removed: ``specs`` must be claimed, so that no other process is at them.
    """
    free = {spec.run_id: spec for spec in specs}
    found = []
    for folder, members in _folders(results, of=free):
        unfinished = {spec.run_id for spec in members if not is_recorded(results, spec)}
        if not unfinished or not unfinished <= free.keys():
            continue
        if not checkpoints(folder):
            remove_folder(folder)
            continue
        found.append([free.get(spec.run_id, spec) for spec in members])
        free = {run_id: spec for run_id, spec in free.items() if run_id not in unfinished}
    return found


def tidy(results: Path) -> None:
    """Remove what processes left behind that were killed while they wrote, or right after they published a run."""
    remove_cut_short(results)
    places = {path.name.rpartition("-")[2]: path for path in (results / "runs").glob("*")}

    def is_published(run_id: str) -> bool:
        return run_id in places and any(places[run_id].glob("*"))  # an empty folder is no record

    for folder, members in _folders(results):
        if all(is_published(spec.run_id) for spec in members):
            remove_folder(folder)
    for folder in (results / PARTIAL).glob("*/"):
        # Killed between making the folder and saying whose it is; where a link leads is not ours.
        if not folder.is_symlink() and not (folder / MEMBERS).exists():
            for name in (_NEW_MEMBERS, LOG):
                with suppress(OSError):
                    (folder / name).unlink()
            _remove_if_empty(folder)
    for ending in (LOCK, CLAIM):
        for path in (results / PARTIAL).glob(f"*{ending}"):
            if is_published(path.stem):
                path.unlink(missing_ok=True)
    for path in (results / PARTIAL).glob(f"*{ATTEMPTS}"):
        if not path.with_suffix("").exists():  # what it counts is published, or was never begun
            path.unlink(missing_ok=True)
    for path in (results / PARTIAL).glob(f"{LOCKS}.*"):  # killed while it was put there
        path.unlink(missing_ok=True)
    leave(results)


def unwritable(results: Path, error: OSError) -> ResultsError:
    """Return what to tell the user about ``error``."""
    return ResultsError(
        f"The results folder {results} cannot be written to: {error.strerror or error}. Make it writable, make room, "
        "or choose another folder; then run the same command again."
    )


def leave(results: Path) -> None:
    """Remove the folder of unfinished runs if it holds nothing but the way in which runs are held."""
    folder = results / PARTIAL
    with suppress(OSError):
        if [path.name for path in folder.iterdir()] == [LOCKS]:
            (folder / LOCKS).unlink()
    _remove_if_empty(folder)


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def members_of(path: Path) -> list[RunSpec]:
    """Return the runs that a file of members names.

    Raises:
        OSError: If it cannot be read, or is no file.
        ResultsError: If it is of another version, or of nobody.
    """
    try:
        values = json.loads(read_regular(path, most=MOST_JSON_BYTES))
        for value in values:
            found = problem("spec", value)
            if found is not None:
                raise ResultsError(f"{path} names no runs: {found}")
        return [RunSpec.from_json(value) for value in values]
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ResultsError(f"{path} names no runs ({error})") from error


def unfinished_ids(results: Path, of: Container[str]) -> set[str]:
    """Return the ids of the runs that have a folder; of runs that are not in ``of`` some may be left out."""
    return {spec.run_id for _, members in _folders(results, of=of) for spec in members}


def _folders(results: Path, of: Container[str] | None = None) -> list[tuple[Path, list[RunSpec]]]:
    """Return the folders with their members, in the order of their names.

    With ``of``, ids of runs, those of other single runs that somebody is at may be left out: their names say whose they
    are, and of a thousand workers each would read the files of all others for each group that it takes.
    """
    with suppress(OSError):
        names = [path.name for path in (results / PARTIAL).iterdir()]
        held = {name.partition(".")[0] for name in names if name.endswith((LOCK, CLAIM))}
        found = []
        for name in sorted(names):
            if "." in name or (of is not None and name in held and name not in of):
                continue
            path = results / PARTIAL / name / MEMBERS
            # Another process has just removed it, or another version wrote it.
            with suppress(OSError, LopbenchError):
                found.append((path.parent, members_of(path)))
        return found
    return []
