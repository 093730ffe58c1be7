"""What the runs of one spec share over all seeds, worked out once: of thousands of runs, most differ in the seed."""

import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

from lopbench.core.interfaces import Headline
from lopbench.core.spec import RunSpec, canonical_json

#: The seed of a spec in JSON as records hold it. Texts have no line breaks in JSON, so this is never inside of one.
_SEED = re.compile(rb'\n  "seed": (0|[1-9][0-9]{0,17})(?=,?\n)')


#: A number that no record holds, since it is drawn anew in each process.
_NO_SEED = secrets.randbits(128) | 1 << 128


class _Ids:
    """The hashes, 16 hex digits, of JSON values that differ in their seed."""

    def __init__(self, rest: Mapping[str, Any]) -> None:
        self._head, self._tail = canonical_json({**rest, "seed": _NO_SEED}).split(str(_NO_SEED))

    def of(self, seed: int) -> str:
        return hashlib.sha256(f"{self._head}{seed}{self._tail}".encode()).hexdigest()[:16]


class Recipe:
    """A spec without its seed.

    Args:
        spec: The spec of the seed 0.
        rest: Its JSON without the seed, as it stands in records, which may be of an older schema; without ``shown``,
            which is in no hash.
    """

    def __init__(self, spec: RunSpec, rest: Mapping[str, Any]) -> None:
        self._spec = spec
        self.rest = rest
        self._stored_ids = _Ids(rest)
        now = _without_seed(spec)
        self._ids = self._stored_ids if now == rest else _Ids(now)

    def spec(self, seed: int) -> RunSpec:
        """Return the spec of a seed."""
        return self._spec.with_seed(seed)

    def run_id(self, seed: int) -> str:
        """Return the run id of a seed: `RunSpec.run_id`."""
        return self._ids.of(seed)

    def stored_id(self, seed: int) -> str:
        """Return the hash of what records hold, in which the names of their directories end."""
        return self._stored_ids.of(seed)

    @cached_property
    def protocol_id(self) -> str:
        """`RunSpec.protocol_id`, which no seed changes."""
        return self._spec.protocol_id

    @cached_property
    def world(self) -> str:
        """What fixes the tasks of a seed, scenario and data set, as canonical JSON."""
        asked = self._spec.protocol()
        return canonical_json([asked["scenario"], asked["data"]])

    @cached_property
    def entry_id(self) -> str:
        """`RunSpec.entry_id`, which no seed changes."""
        return self._spec.entry_id

    @cached_property
    def family_id(self) -> str:
        """`RunSpec.entry_id` of the family: the entry whatever its tuning chose."""
        return self._spec.family.entry_id

    @cached_property
    def headline(self) -> Headline:
        """`RunSpec.headline`, which no seed changes."""
        return self._spec.headline

    @cached_property
    def plain_entry_id(self) -> str:
        """The same of plain learning with the same optimizer."""
        return replace(self._spec, methods=(), start=0.0).entry_id

    @cached_property
    def reference(self) -> "Recipe":
        """`RunSpec.reference`, the fresh networks that runs are measured against."""
        return _recipe_of(self._spec.reference())

    @cached_property
    def own_reference(self) -> "Recipe":
        """`RunSpec.own_reference`, this recipe on fresh networks."""
        return _recipe_of(self._spec.own_reference())


def _recipe_of(spec: RunSpec) -> Recipe:
    return Recipe(spec, _without_seed(spec))


def _without_seed(spec: RunSpec) -> dict[str, Any]:
    return {key: value for key, value in spec.to_json().items() if key != "seed"}


def without_seed(data: bytes) -> tuple[bytes, int] | None:
    """Return the JSON of a spec with 0 in place of its seed, and the seed; None where that is not easily told.

    Of two specs with the same text all is equal but the seed, if `stands_for_all` is true of the text.
    """
    match = _SEED.search(data)
    return None if match is None else (data[: match.start(1)] + b"0" + data[match.end(1) :], int(match[1]))


def stands_for_all(data: bytes) -> bool:
    """Return whether what `without_seed` made 0 is the seed: whether the spec's seed follows the number there."""
    match = _SEED.search(data)
    if match is None:
        return False
    other = data[: match.start(1)] + str(_NO_SEED).encode() + data[match.end(1) :]
    return bool(json.loads(other).get("seed") == _NO_SEED)
