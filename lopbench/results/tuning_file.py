"""The logs of tuning that are submitted with an entry, and whether they fit its rows.

``tuning.json`` is a list with an object for each tuned row: its ``protocol_id``, its ``entry_id``, and its ``log``, as
the specs of tuned runs have it. Rows that were tuned without ``--tune`` need it, since their records hold no log.
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
    """Return the content of the file, with the logs in the records of a board; None if no row was tuned."""
    found = [
        {"protocol_id": key[0], "entry_id": key[1], "log": group.spec.tuning.to_json()}
        for key, group in board.groups.items()
        if group.spec.tuning is not None
    ]
    return f"{json.dumps(found, indent=2, sort_keys=True)}\n".encode() if found else None


def log_problems(data: bytes, board: Board) -> Iterator[str]:
    """Yield what is wrong with the logs of an entry.

    A log has as many configurations as its budget, each with a score of each development seed. The best one is the
    chosen one, and is what was run.

    Args:
        data: The content of the file, which is JSON.
        board: The rows that the records of the entry make.
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
            yield f"there is a log of the entry {key[1]} under {key[0]}, and there are no runs of it"
        elif key in logs:
            yield f"{_named(rows[key])} has two logs"
        logs[key] = each["log"]
    for key, group in rows.items():
        wrong = _problem(logs.get(key), group)
        if wrong is not None:
            yield f"{_named(group)}: {wrong}"


def _problem(value: Mapping[str, Any] | None, group: Group) -> str | None:
    """Return what is wrong with the log of a row, None if nothing is."""
    spec = group.spec
    recorded = None if spec.tuning is None else spec.tuning.to_json()
    if value is None:
        return None if recorded is None else "its records hold a log, and the file has none"
    if recorded is not None and value != recorded:
        return "its log differs from the one in its records"
    try:
        log = TuningLog.from_json(value)
        log.check(spec.methods, spec.optimizer)
    except (UsageError, ResultsError) as error:
        return str(error)
    if log.score != group.score:
        return f"its log has scores of {log.score}, and the scenario is scored by {group.score}"
    return None


def _named(group: Group) -> str:
    return f"{group.spec.method_label} with {group.spec.optimizer_label} under {group.protocol_id}"
