"""What a plugin leaves changed in the process is put back, and told."""

import builtins
import gc
import hashlib
import importlib
import json
import locale
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import lopbench.core.faces
import lopbench_plugins.perturbations.l2
from lopbench.core import hookspecs, interfaces, spec
from lopbench.core.errors import PluginError
from lopbench.core.globals import SETTINGS
from lopbench.core.guard import kept, left_alone
from lopbench.core.manager import plugins
from lopbench.core.process import PROCESS
from lopbench.runner.interrupts import put_off


class Lasting(TorchFunctionMode):
    """Sees every function of torch."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


class Dispatching(TorchDispatchMode):
    """Sees every operator of torch."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


class Stream:
    """Takes the place of a standard stream."""

    @property
    def closed(self):
        raise SystemExit


class Listless(list):
    """Takes the place of a list."""


#: What must not be freed.
KEPT = []


def lead_descriptor_elsewhere():
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def lower(limit):
    resource.setrlimit(limit, (100, resource.getrlimit(limit)[1]))


def handle(number):
    return lambda: signal.signal(number, lambda number, frame: None)


def add_variable(name):
    return lambda: os.environ.update({name: "1"})


#: What is changed in the process, and what is told of it.
CHANGES = {
    "working directory": (lambda: os.chdir("/"), "the working directory changed, from "),
    "umask": (lambda: os.umask(0o123), "the mask of new files changed"),
    "variable": (lambda: os.environ.update(PATH="/nowhere"), "the environment changed, PATH, from"),
    "variable removed": (lambda: os.environ.pop("PATH"), "the environment changed, PATH, from .* to None"),
    "variable of consequence": (add_variable("LOPBENCH_CACHED"), "LOPBENCH_CACHED, from None to '1'"),
    "environment": (lambda: setattr(os, "environ", dict(os.environ)), "os.environ is another one"),
    "descriptor": (lead_descriptor_elsewhere, "the standard descriptors changed, 2 now lead elsewhere"),
    "stream": (lambda: setattr(sys, "stdout", Stream()), "sys.stdout is another one"),
    "stream gone": (lambda: setattr(sys, "stderr", None), "sys.stderr is another one"),
    "handler": (handle(signal.SIGTERM), "the signal handlers changed, that of SIGTERM"),
    "handler of a child": (handle(signal.SIGCHLD), "that of SIGCHLD"),
    "blocked": (lambda: signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM]), "the blocked signals changed"),
    "alarm": (lambda: signal.alarm(1000), "the timers changed, ITIMER_REAL is running"),
    "recursion": (lambda: sys.setrecursionlimit(sys.getrecursionlimit() - 100), "the recursion limit changed, from"),
    "digits": (lambda: sys.set_int_max_str_digits(700), "the limit on digits changed"),
    "interval": (lambda: sys.setswitchinterval(1.0), "the switch interval of threads changed"),
    "profile": (lambda: sys.setprofile(lambda *a: None), "the tracing changed"),
    "trace of threads": (lambda: threading.settrace(lambda *a: None), "the tracing of threads changed"),
    "path": (lambda: sys.path.insert(0, "/nowhere"), "the search path of modules changed, '/nowhere' stands before"),
    "path emptied": (lambda: sys.path.clear(), "the search path of modules changed"),
    "another path": (lambda: setattr(sys, "path", Listless(sys.path)), "sys.path is another one"),
    "finder gone": (lambda: sys.meta_path.pop(), "the finders of modules changed, one of them is gone"),
    "finder": (lambda: sys.meta_path.insert(0, Stream()), "Stream stands before the others"),
    "interpreter": (lambda: setattr(sys, "executable", "/bin/false"), "the name of the interpreter changed"),
    "collection": (gc.disable, "the garbage collection changed"),
    "threshold": (lambda: gc.set_threshold(1, 1, 1), "the garbage collection changed"),
    "warnings": (
        lambda: warnings.simplefilter("error", ImportWarning),
        "the filters of warnings changed, warnings are",
    ),
    "no warnings": (warnings.resetwarnings, "the filters of warnings changed, one of them is gone"),
    "locale": (lambda: locale.setlocale(locale.LC_ALL, "C"), "the locale changed"),
    "limit": (lambda: lower(resource.RLIMIT_NOFILE), "the limits of the process changed, RLIMIT_NOFILE"),
    "dtype": (lambda: torch.set_default_dtype(torch.float64), "the default dtype of torch changed"),
    "device": (lambda: torch.set_default_device("meta"), "the default device of torch changed, from cpu to meta"),
    "functions": (lambda: Lasting().__enter__(), "the modes of torch's functions changed"),
    "dispatcher": (lambda: Dispatching().__enter__(), "the modes of torch's dispatcher changed"),
    "inference": (
        lambda: KEPT.append(torch.inference_mode()) or KEPT[-1].__enter__(),
        "the inference mode of torch changed",
    ),
    "saving": (
        lambda: torch.autograd.graph.saved_tensors_hooks(lambda x: x, lambda x: x).__enter__(),
        "the hooks of saved tensors in torch changed",
    ),
    "fill": (
        lambda: setattr(torch.utils.deterministic, "fill_uninitialized_memory", False),
        "deterministic algorithms",
    ),
    "cudnn": (lambda: setattr(torch.backends.cudnn, "enabled", False), "the switches of cudnn in torch changed"),
    "mkldnn": (lambda: torch._C._set_mkldnn_enabled(False), "the switch of mkldnn in torch changed"),
    "autocast": (lambda: torch.set_autocast_dtype("cpu", torch.float16), "the autocast of torch changed"),
    "module hook": (
        lambda: torch.nn.modules.module.register_module_forward_hook(lambda module, args, output: output * 2),
        "the hooks of all modules of torch changed",
    ),
    "numpy": (lambda: np.seterr(all="raise"), "the handling of errors in numpy changed"),
}

#: Code that is replaced, and what is told of it.
CODE = {
    "builtin": (lambda: setattr(builtins, "zip", None), r"builtins\.zip replaced"),
    "builtin gone": (lambda: delattr(builtins, "next"), r"builtins\.next replaced"),
    "function of ours": (lambda: setattr(spec, "digest", lambda value, length: "0" * length), "spec.digest replaced"),
    "inside of a function": (
        lambda: setattr(spec.canonical_json, "__code__", (lambda value: "{}").__code__),
        "spec.canonical_json rewritten",
    ),
    "defaults": (lambda: setattr(spec.split, "__defaults__", ("x",)), "spec.split rewritten"),
    "constant": (lambda: setattr(spec, "NUMBERS", 7), "spec.NUMBERS replaced"),
    "content of a constant": (lambda: interfaces.KINDS.pop("metrics"), "interfaces.KINDS changed"),
    "name that hides another": (lambda: setattr(spec, "sorted", reversed), "spec.sorted added"),
    "method of a class": (lambda: setattr(spec.RunSpec, "to_json", lambda self: {}), r"RunSpec\.to_json replaced"),
    "attribute more": (
        lambda: setattr(spec.RunSpec, "__getattribute__", object.__getattribute__),
        "__getattribute__ a",
    ),
    "attribute less": (lambda: delattr(spec.RunSpec, "run_id"), r"RunSpec\.run_id removed"),
    "property": (lambda: setattr(spec.RunSpec.method_label.fget, "__code__", (lambda s: "").__code__), "_label rewri"),
    "another's field": (
        lambda: setattr(lopbench_plugins.perturbations.l2.L2, "version", 9),
        r"perturbations\.l2\.L2\.version added",
    ),
    "function of torch": (lambda: setattr(torch.nn.functional, "relu", torch.tanh), r"functional\.relu replaced"),
    "method of tensors": (lambda: setattr(torch.Tensor, "__repr__", lambda self: ""), "Tensor.__repr__ replaced"),
    "call of a module": (lambda: setattr(torch.nn.Module, "__call__", lambda self, x: x), "Module.__call__ replaced"),
    "forward of a layer": (lambda: setattr(torch.nn.Linear, "forward", lambda self, x: x), "Linear.forward replaced"),
    "function of Python": (lambda: setattr(json, "dumps", lambda *a, **k: ""), "json.dumps replaced"),
    "function of the system": (lambda: setattr(os, "replace", lambda *a: None), "os.replace replaced"),
    "module": (lambda: sys.modules.update({"lopbench.core.spec": hookspecs}), "the module lopbench.core.spec replaced"),
    "module removed": (lambda: sys.modules.pop("lopbench.core.spec"), "the module lopbench.core.spec replaced"),
    "registry": (
        lambda: plugins().registry._entries["methods"].pop("cbp"),
        "the registry of components changed, a component in it is gone",
    ),
}


def state():
    """Return all settings that compare by value."""
    shown = [each for each in (*PROCESS, *SETTINGS) if each.name != "standard descriptors"]
    return {each.name: each.read() for each in shown}


@pytest.fixture(autouse=True)
def usual_path(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", os.environ["PATH"])
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", CHANGES)
def test_a_setting_that_is_left_changed_is_put_back_and_told(name):
    change, told = CHANGES[name]
    plugins()
    torch.use_deterministic_algorithms(False)  # imports what sets things by itself
    before, behind = state(), [os.fstat(number).st_ino for number in range(3)]
    with pytest.raises(PluginError, match=f"plugin p: it left .*{told}"), left_alone("plugin p: "):
        change()
    assert state() == before
    assert [os.fstat(number).st_ino for number in range(3)] == behind


@pytest.mark.parametrize("name", CODE)
def test_code_that_is_replaced_is_put_back_and_told(name):
    change, told = CODE[name]
    plugins().registry.get("methods", "cbp")
    with pytest.raises(PluginError, match=f"it left .*{told}"), left_alone(code=True):
        change()
    with left_alone(code=True):
        pass
    assert spec.digest({}, 4) == hashlib.sha256(b"{}").hexdigest()[:4]
    assert "cbp" in plugins().registry.names("methods")
    assert sys.modules["lopbench.core.spec"] is spec
    assert torch.nn.Linear(1, 1)(torch.zeros(1, 1)).shape == (1, 1)
    assert torch.nn.functional.relu(torch.tensor(-1.0)) == 0
    assert list(zip([1], [2], strict=True)) == [(1, 2)]


#: What libraries and careful plugins do.
HARMLESS = {
    "higher recursion limit": lambda: sys.setrecursionlimit(sys.getrecursionlimit() + 1000),
    "variable of the compiler": add_variable("TORCHINDUCTOR_CACHE_DIR"),
    "variable of its own": add_variable("SOMETHING_OF_ITS_OWN"),
    "path at the end": lambda: sys.path.append("/nowhere"),
    "fewer warnings": lambda: warnings.filterwarnings("ignore", category=ImportWarning, message="of mine"),
    "random numbers": lambda: (random.random(), np.random.rand(), torch.rand(1)),
    "annotations": lambda: spec.RunSpec.__annotations__,
    "attribute of a module": lambda: setattr(torch, "of_a_plugin", 1),
    "usual handler of interrupts": lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_harms_nobody_is_not_refused(name, monkeypatch):
    monkeypatch.setattr(sys, "path", sys.path)
    path, limit, handler = list(sys.path), sys.getrecursionlimit(), signal.getsignal(signal.SIGINT)
    with warnings.catch_warnings(), left_alone(code=True):
        HARMLESS[name]()
    sys.path[:] = path
    sys.setrecursionlimit(limit)
    signal.signal(signal.SIGINT, handler)
    vars(torch).pop("of_a_plugin", None)
    for variable in ("TORCHINDUCTOR_CACHE_DIR", "SOMETHING_OF_ITS_OWN"):
        os.environ.pop(variable, None)


@pytest.mark.parametrize("variable", ["TORCHINDUCTOR_CACHE_DIR", "_TORCHINDUCTOR_PYOBJECT_TENSOR_DATA_PTR"])
def test_what_the_compiler_sets_anew_in_a_process_that_inherited_it_is_not_refused(variable, monkeypatch):
    monkeypatch.setenv(variable, "of the process that started this one")
    with left_alone():
        add_variable(variable)()


def test_what_a_user_changes_from_outside_is_nobody_s_fault():
    program = """
import os, subprocess
from lopbench.core.guard import left_alone
one = min(os.sched_getaffinity(0))
with left_alone():
    subprocess.run(["renice", "-n", "19", "-p", str(os.getpid())], check=True, stdout=subprocess.DEVNULL)
    os.sched_setaffinity(0, [one])
print(os.getpriority(os.PRIO_PROCESS, 0), os.sched_getaffinity(0) == {one})
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("19 True\n", "")


def test_random_numbers_are_put_back_without_a_word():
    before = random.getstate()
    with left_alone(code=True):
        random.seed(5)
    assert random.getstate() == before


def test_closed_streams_are_opened_again(tmp_path, monkeypatch):
    with (tmp_path / "out").open("w") as file:
        monkeypatch.setattr(sys, "stdout", file)
        with pytest.raises(PluginError, match=r"sys\.stdout is closed"), left_alone():
            sys.stdout.close()
        assert not sys.stdout.closed
        sys.stdout.flush()


def test_an_error_is_told_rather_than_what_it_leaves_changed():
    folder = os.getcwd()  # noqa: PTH109
    with pytest.raises(KeyError), left_alone():
        os.chdir("/") or {}["nothing"]
    assert os.getcwd() == folder  # noqa: PTH109


def test_an_error_that_replaced_code_may_have_led_to_is_told_as_that():
    with pytest.raises(PluginError, match=r"builtins\.len replaced"), left_alone(code=True):
        setattr(builtins, "len", None) or len([])


def test_who_is_only_looked_at_is_not_refused():
    folder = os.getcwd()  # noqa: PTH109
    with kept() as guard:
        os.chdir("/")
    assert guard.found == [f"the working directory changed, from {folder} to /"]
    assert os.getcwd() == folder  # noqa: PTH109


def test_modules_that_are_imported_meanwhile_are_looked_at_once_they_are_there(monkeypatch):
    name = "lopbench.core.faces"
    monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(lopbench.core, "faces")
    with pytest.raises(PluginError, match=r"lopbench\.core\.faces\.face replaced"), left_alone(code=True):
        importlib.import_module(name).face = None


class Interrupted:
    """Has the user interrupt while it is taken down, where Python drops what is raised."""

    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):  # until Python has called the handler
            pass


def interrupted_inside(guard, ended):
    with guard():
        with guard():
            thing = Interrupted()
            del thing
            ended.append("inside")
        ended.append("between")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("guard", [left_alone, kept])
def test_an_interrupt_that_falls_into_a_del_is_not_lost(guard):
    ended = []
    with pytest.raises(KeyboardInterrupt):
        interrupted_inside(guard, ended)
    assert ended == ["inside"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def put_off_inside(ended):
    with put_off() as caught:
        interrupted_inside(left_alone, ended)
        ended.append(len(caught))


def test_an_interrupt_that_is_put_off_is_not_raised_by_a_guard():
    ended = []
    with pytest.raises(KeyboardInterrupt):
        put_off_inside(ended)
    assert ended == ["inside", "between", 1]
