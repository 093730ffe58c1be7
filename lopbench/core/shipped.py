"""Study files that plugins bring, found by name: ``claims/D3`` is ``claims/D3.toml`` in the folder of a plugin."""

from __future__ import annotations

from pathlib import Path

from lopbench.core.errors import PluginError, UsageError
from lopbench.core.manager import Plugins, plugins
from lopbench.core.registry import suggest
from lopbench.core.text import told


def shipped(folder: str, loaded: Plugins | None = None) -> dict[str, Path]:
    """Return the study files of a folder, by name without it, in the order of names.

    Args:
        folder: "claims", "figures" or "suites".
        loaded: Whose plugins; the installed ones if None.

    Raises:
        PluginError: If two plugins bring files of one name, or one cannot say where its files are.
    """
    found: dict[str, Path] = {}
    manager = (loaded or plugins()).manager
    for each in manager.hook.lopbench_studies.get_hookimpls():
        try:
            files = sorted((Path(str(each.function())) / folder).glob("*.toml"))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise PluginError(
                f"plugin {each.plugin_name} does not say where its study files are: {told(error)}"
            ) from error
        for path in files:
            other = found.setdefault(path.stem, path)
            if other is not path:
                raise PluginError(f"the study {folder}/{path.stem} is there twice: {other} and {path}; rename one")
    return dict(sorted(found.items(), key=lambda item: _order(item[0])))


def study_path(given: Path, folder: str) -> Path:
    """Return the file that a user means: one that is there, or one that a plugin brings.

    Args:
        given: A path, or a name as in "D3" or "claims/D3".
        folder: In which folder names are looked for.

    Raises:
        UsageError: If there is none.
    """
    if given.is_file():
        return given
    known = shipped(folder)
    name = str(given).removeprefix(f"{folder}/")
    if name in known:
        return known[name]
    raise UsageError(
        f"there is no file {given}, and no study of this name.{suggest(name, [*known])} "
        f"'lopbench list {folder}' shows those that there are"
    )


def _order(name: str) -> tuple[tuple[int, str], ...]:
    """Return a key that has D2 before D10."""
    parts: list[str] = [""]
    for character in name:
        if parts[-1] and parts[-1].isdigit() != character.isdigit():
            parts.append("")
        parts[-1] += character
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in parts)
