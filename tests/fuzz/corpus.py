"""What is broken: small records, packed sets, tables, data sets and a stopped run, all made by the project itself."""

import hashlib
import importlib.util
import shutil
import signal
from contextlib import suppress
from pathlib import Path
from types import ModuleType

from click.testing import CliRunner, Result

from lopbench.cli import cli
from lopbench.runner import session, study
from lopbench.runner.report import Quiet
from lopbench_plugins.data import mnist
from lopbench_plugins.data.cifar import Cifar10

TESTS = Path(__file__).parents[1]

#: A study whose runs take a tenth of a second.
FEW, SMALL = "bitflip:samples=24,m=6,f=3,T=6,steps_per_task=6", "mlp:width=16,depth=1"


def command(*arguments: object) -> Result:
    """Run a command as the command line does."""
    return CliRunner().invoke(cli, [str(each) for each in arguments], prog_name="lopbench")


class _Stops(Quiet):
    """A reporter that interrupts a run once it has taken some steps, as its user does."""

    def advanced(self, steps, task, tasks, score):
        """Interrupt."""
        signal.raise_signal(signal.SIGINT)


def build(root: Path) -> None:
    """Write one of each into a folder."""
    written = _module(TESTS / "results" / "conftest.py").Results(root / "results")
    methods = ((), (written.component("methods", "cbp", "boundary-free", rate=1e-4),))
    for of in methods:
        for seed in range(2):
            spec = written.spec(*of, seed=seed)
            online = {task: 0.5 + 0.01 * task + 0.05 * seed + 0.1 * len(of) for task in range(10)}
            written.add(spec, online, online, metrics={"dead_fraction": dict.fromkeys(range(10), 0.25)})
            written.add(spec.reference(), 0.9)
    done(command("pack", root / "results", "--output", root / "packed.lopbench"))
    done(command("leaderboard", root / "results", "--output", root / "table.csv"))
    shared = _module(TESTS / "conftest.py")
    tiny = shared.Tiny(train=3, val=1)
    tiny.zip(root / "tiny-zip")
    tiny.folder(root / "tiny-folder")
    cifar = shared.Cifar()
    cifar.tar(root / "cifar-tar")
    cifar.folder(root / "cifar-folder")
    digits = shared.Mnist()
    digits.folder(root / "mnist-gz")
    digits.folder(root / "mnist-idx", packed=False)
    planned = study.plan(scenario=FEW, architecture=SMALL, results=root / "stopped", device="cpu")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background ignores interrupts
    look, session.LOOK_S = session.LOOK_S, 0.0
    with suppress(KeyboardInterrupt):
        study.execute(planned, _Stops(), checkpoint_s=0.0)
    session.LOOK_S = look
    assert list((root / "stopped").rglob("*.safetensors")), "the stopped run has no checkpoint"


def official(place: Path) -> None:
    """Take the files of MNIST and CIFAR-10 in a folder for the official ones: else nobody would read broken ones."""
    for part in (*Cifar10.train, Cifar10.test, Cifar10.meta):
        file = place / "cifar-10-batches-py" / part.name
        if _readable(file):
            object.__setattr__(part, "md5", hashlib.md5(file.read_bytes()).hexdigest())
    for name in mnist.MD5:
        file = place / "MNIST" / "raw" / name
        if _readable(file):
            mnist.MD5[name] = hashlib.md5(file.read_bytes()).hexdigest()


def _readable(file: Path) -> bool:
    # Those of the system say that they are empty, and have no end.
    return file.is_file() and 0 < file.stat().st_size < 2**26


def copy(source: Path, target: Path) -> Path:
    """Copy a file or folder, and return where it is."""
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copyfile(source, target)
    return target


def done(result: Result) -> None:
    """Insist that a command did what it was asked."""
    assert result.exit_code == 0, result.output


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"fuzzed_{path.parent.name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
