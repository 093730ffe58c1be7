import pytest


@pytest.fixture(autouse=True)
def own_directories(tmp_path, monkeypatch):
    """Keep the tests away from the user's data and cache."""
    monkeypatch.delenv("LOPBENCH_DATA", raising=False)
    monkeypatch.setenv("LOPBENCH_CACHE", str(tmp_path / "cache"))
