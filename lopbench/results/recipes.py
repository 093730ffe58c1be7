"""What the runs of one spec share over all seeds, worked out once: of thousands of runs, most differ in the seed."""

import hashlib
import json
import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from lopbench.core.spec import RunSpec, canonical_json

#: The seed of a spec in JSON as records hold it. Texts have no line breaks in JSON, so this is never inside of one.
_SEED = re.compile(rb'\n  "seed": (0|[1-9][0-9]{0,17})(?=,?\n)')


class Recipe:
    """A spec without its seed.

    Args:
        spec: The spec of the seed 0.
        rest: Its JSON without the seed.
    """

    def __init__(self, spec: RunSpec, rest: Mapping[str, Any]) -> None:
        self._spec = spec
        self.rest = rest
        texts = [canonical_json({**rest, "seed": seed}) for seed in (0, 1)]
        place = next(i for i, (zero, one) in enumerate(zip(*texts, strict=True)) if zero != one)
        self._head, self._tail = texts[0][:place], texts[0][place + 1 :]

    def spec(self, seed: int) -> RunSpec:
        """Return the spec of a seed."""
        return self._spec.with_seed(seed)

    def run_id(self, seed: int) -> str:
        """Return the run id of a seed: `RunSpec.run_id`."""
        return hashlib.sha256(f"{self._head}{seed}{self._tail}".encode()).hexdigest()[:16]

    @cached_property
    def protocol_id(self) -> str:
        """`RunSpec.protocol_id`, which no seed changes."""
        return self._spec.protocol_id

    @cached_property
    def world(self) -> str:
        """What fixes the tasks of a seed, scenario and data set, as canonical JSON."""
        return canonical_json([self.rest["scenario"], self.rest["data"]])

    @cached_property
    def methods(self) -> str:
        """The methods as canonical JSON."""
        return canonical_json(self.rest["methods"])

    @cached_property
    def reference(self) -> "Recipe":
        """`RunSpec.reference`, the fresh networks that runs are measured against."""
        return _recipe_of(self._spec.reference())

    @cached_property
    def own_reference(self) -> "Recipe":
        """`RunSpec.own_reference`, this recipe on fresh networks."""
        return _recipe_of(self._spec.own_reference())


def _recipe_of(spec: RunSpec) -> Recipe:
    return Recipe(spec, {key: value for key, value in spec.to_json().items() if key != "seed"})


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
    other = data[: match.start(1)] + b"1" + data[match.end(1) :]
    return [json.loads(text).get("seed") for text in (data, other)] == [0, 1]
