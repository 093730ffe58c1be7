"""The logs of tuning that are submitted with an entry, and whether they can have led to its rows.

``tuning.json`` is a list with an object for each row that was tuned: its ``protocol_id`` and ``entry_id``, and its
``log``, as the specs of tuned runs have it. It is needed for rows that were tuned without ``--tune``, whose records
hold none.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from lopbench.core.errors import ResultsError, UsageError
from lopbench.core.reading import parsed_json
from lopbench.core.text import plain
from lopbench.core.tuning import TuningLog
from lopbench.results.group import Group
from lopbench.results.leaderboard import Board
from lopbench.results.schema import problem

TUNING = "tuning.json"

#: Protocol and entry of a row.
_Key = tuple[str, str]


def recorded_logs(board: Board) -> bytes | None:
    """Return the file with the logs that the records of some rows hold; None if none of them was tuned."""
    found = [
        {"protocol_id": key[0], "entry_id": key[1], "log": group.spec.tuning.to_json()}
        for key, group in board.groups.items()
        if group.spec.tuning is not None
    ]
    return f"{json.dumps(found, indent=2, sort_keys=True)}\n".encode() if found else None


def log_problems(data: bytes, board: Board) -> Iterator[str]:
    """Yield what is wrong with the logs of an entry.

    Each has as many configurations as its budget, all with a score of each development seed, the best of them is the
    one that it chose, and that is what was run.

    Args:
        data: The file, which is JSON.
        board: What the records of the entry come to.
    """
    yield from (f"{TUNING}: {plain(each)}" for each in _problems(parsed_json(data), board.groups))


def _problems(value: Any, rows: Mapping[_Key, Group]) -> Iterator[str]:
    found = problem("tuning", value)
    if found is not None:
        yield found
        return
    logs = {}
    for each in value:
        key = each["protocol_id"], each["entry_id"]
        if key not in rows:
            yield f"a log is of the entry {key[1]} under {key[0]}, of which there are no runs"
        elif key in logs:
            yield f"{_named(rows[key])} has two logs"
        logs[key] = each["log"]
    for key, group in rows.items():
        wrong = _problem(logs.get(key), group)
        if wrong is not None:
            yield f"{_named(group)}: {wrong}"


def _problem(value: Mapping[str, Any] | None, group: Group) -> str | None:
    """Return what is wrong with the log of a row; None if nothing is."""
    spec = group.spec
    recorded = None if spec.tuning is None else spec.tuning.to_json()
    if value is None:
        return None if recorded is None else "its log is missing, which its records hold"
    if recorded is not None and value != recorded:
        return "its log is not the one that its records hold"
    try:
        log = TuningLog.from_json(value)
        log.check(spec.methods, spec.optimizer)
    except (UsageError, ResultsError) as error:
        return str(error)
    if log.score != group.score:
        return f"its log is of the {log.score}, and the scenario scores the {group.score}"
    return None


def _named(group: Group) -> str:
    return f"{group.spec.method_label} with {group.spec.optimizer_label} under {group.protocol_id}"
