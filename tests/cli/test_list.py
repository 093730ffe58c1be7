import json

import pytest

from lopbench.core.interfaces import KINDS
from lopbench.core.manager import Skipped, plugins


def test_it_lists_every_registered_component(lopbench):
    shown = lopbench("list").stdout
    for kind in KINDS:
        for entry in plugins().registry.entries(kind):
            assert f"  {entry.name} " in shown
            assert entry.summary in shown


@pytest.mark.parametrize("kind", KINDS)
def test_one_kind_lists_no_other(lopbench, kind):
    value = json.loads(lopbench("list", kind, "--format", "json").stdout)
    assert list(value) == [kind, "skipped"]
    assert [row["name"] for row in value[kind]] == plugins().registry.names(kind)


def test_skipped_plugins_stand_at_the_end_with_their_reason(lopbench, monkeypatch):
    skipped = Skipped("foo", "lopbench-foo", "ModuleNotFoundError: No module named 'bar'", "Traceback ...")
    monkeypatch.setattr(plugins(), "skipped", [skipped])
    last = lopbench("list", "metrics").stdout.splitlines()[-1]
    assert last == "  foo of lopbench-foo: ModuleNotFoundError: No module named 'bar'"
    value = json.loads(lopbench("list", "--format", "json").stdout)
    assert value["skipped"] == [{"plugin": "foo", "distribution": "lopbench-foo", "reason": skipped.reason}]
