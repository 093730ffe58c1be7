"""What hostile plugins do, and where: their sources, and what has to be told of each."""

HEAD = """
import builtins, gc, json, locale, os, random, resource, signal, sys, threading, time, warnings
from abc import ABCMeta
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

import lopbench
from lopbench import (
    Architecture, Cloner, DataSet, Executor, Handle, InvalidInputError, LayerMetric, Metric, Optimizer, Perturbation,
    Samples, Scenario, TrainingMetric, hookimpl,
)
from lopbench.core import errors, hookspecs, interfaces, registry, spec
from lopbench.core.manager import plugins
from lopbench_plugins.architectures.online_mlp import OnlineMLP
from lopbench_plugins.cloners.tile import Tile
from lopbench_plugins.optimizers.sgd import SGD
from lopbench_plugins.perturbations.l2 import L2
from lopbench_plugins.scenarios.bitflip import BitFlip

KEPT = []


def deed():
{deed}


def component(base, **members):
    made = type(base)("Evil", (base,), {"__doc__": "Evil.", "name": NAME, "__module__": __name__, **members})
    return dataclass(frozen=True, kw_only=True)(made)


def doing(result=None):
    def hook(self, *arguments, **options):
        deed()
        return result(*arguments, **options) if result else None

    return hook
"""

#: Changes of what holds for the process, by name: the source, and what is told of it.
CHANGES = {
    "chdir": ("os.chdir('/')", "the working directory changed"),
    "umask": ("os.umask(0o177)", "the mask of new files changed"),
    "variable": ("os.environ['PATH'] = '/nowhere'", "the environment changed, PATH"),
    "cache": ("os.environ['LOPBENCH_CACHE'] = '/nowhere'", "the environment changed, LOPBENCH_CACHE"),
    "threads of openmp": ("os.environ['OMP_NUM_THREADS'] = '7'", "the environment changed, OMP_NUM_THREADS"),
    "no variables": ("os.environ.clear()", "the environment changed"),
    "another environ": ("os.environ = {}", "os.environ is another one"),
    "stderr none": ("sys.stderr = None", "sys.stderr is another one"),
    "stdout closed": ("sys.stdout.close()", "sys.std(out|err) is closed|descriptors changed"),
    "stderr closed": ("sys.stderr.close()", "sys.stderr is closed|descriptors changed"),
    "stdin": ("sys.stdin = open(os.devnull)", "sys.stdin is another one"),
    "descriptor closed": ("os.close(1)", "the standard descriptors changed, 1"),
    "descriptors": ("for n in range(3): os.dup2(os.open(os.devnull, os.O_RDWR), n)", "standard descriptors changed"),
    "terminate": ("signal.signal(signal.SIGTERM, signal.SIG_IGN)", "that of SIGTERM"),
    "interrupt": ("signal.signal(signal.SIGINT, signal.SIG_IGN)", "that of SIGINT"),
    "blocked": ("signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())", "the blocked signals changed"),
    "alarm": ("signal.alarm(600)", "ITIMER_REAL is running"),
    "recursion": ("sys.setrecursionlimit(300)", "the recursion limit changed"),
    "switches": ("sys.setswitchinterval(10)", "the switch interval of threads changed"),
    "digits": ("sys.set_int_max_str_digits(640)", "the limit on digits changed"),
    "profile": ("sys.setprofile(lambda *a: None)", "the tracing changed"),
    "trace": ("sys.settrace(lambda *a: None)", "the tracing changed"),
    "path": ("sys.path[:] = []", "the search path of modules changed"),
    "path ahead": ("sys.path.insert(0, '/nowhere')", "'/nowhere' stands before the others"),
    "finders": ("sys.meta_path.clear()", "the finders of modules changed"),
    "interpreter": ("sys.executable = '/bin/false'", "the name of the interpreter changed"),
    "collection": ("gc.disable(); gc.set_threshold(1)", "the garbage collection changed"),
    "warnings": ("warnings.simplefilter('error')", "the filters of warnings changed"),
    "locale": (
        "locale.setlocale(locale.LC_ALL, 'POSIX' if locale.setlocale(0) != 'C' else 'C.UTF-8')",
        "the locale ch",
    ),
    "limit": ("resource.setrlimit(resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))", "RLIMIT_FSIZE"),
    "descriptors few": ("resource.setrlimit(resource.RLIMIT_NOFILE, (16, resource.getrlimit(7)[1]))", "RLIMIT_NOFILE"),
    "threads": ("torch.set_num_threads(2)", "the number of threads of torch changed"),
    "dtype": ("torch.set_default_dtype(torch.float64)", "the default dtype of torch changed"),
    "device": ("torch.set_default_device('meta')", "the default device of torch changed"),
    # Once, where a place is come to twice, as it would be as before otherwise.
    "gradients": (
        "KEPT or KEPT.append(torch.set_grad_enabled(not torch.is_grad_enabled()))",
        "the gradient mode of torch changed",
    ),
    "inference": ("KEPT.append(torch.inference_mode()); KEPT[-1].__enter__()", "the inference mode of torch changed"),
    "anomaly": ("torch.autograd.set_detect_anomaly(True)", "the anomaly mode of torch changed"),
    "precision": ("torch.set_float32_matmul_precision('medium')", "the matmul precision of torch changed"),
    "denormals": (
        # To what it was not at first: outside of runs they are not flushed.
        "KEPT.append(float('5e-324') * 1.0 != 0); torch.set_flush_denormal(KEPT[0])",
        "the flushing of denormals of torch changed",
    ),
    "deterministic": ("torch.use_deterministic_algorithms(True)", "the deterministic algorithms of torch changed"),
    "mkldnn": ("torch._C._set_mkldnn_enabled(False)", "the switch of mkldnn in torch changed"),
    "seed": ("torch.manual_seed(5)", "the global seed of torch changed"),
    "module hook": (
        "torch.nn.modules.module.register_module_forward_hook(lambda m, a, o: o * 2)",
        "the hooks of all modules of torch changed",
    ),
    "numpy errors": ("np.seterr(all='raise')", "the handling of errors in numpy changed"),
}

#: Code that is replaced.
CODE = {
    "relu": ("torch.nn.functional.relu = torch.tanh", r"functional\.relu replaced"),
    "module call": ("torch.nn.Module.__call__ = lambda self, x: x", r"Module\.__call__ replaced"),
    "linear": ("torch.nn.Linear.forward = lambda self, x: x", r"Linear\.forward replaced"),
    "tensor": ("torch.Tensor.backward = lambda self: None", r"Tensor\.backward replaced"),
    "dumps": ("json.dumps = lambda *a, **k: '{}'", r"json\.dumps replaced"),
    "rename": ("os.replace = os.rename = lambda *a, **k: None", r"os\.(replace|rename) replaced"),
    "time": ("time.perf_counter = lambda: 0.0", r"time\.perf_counter replaced"),
    "len": ("builtins.len = lambda x: 0", r"builtins\.len replaced"),
    "open": ("builtins.open = None", r"builtins\.open replaced"),
    "isinstance": ("builtins.isinstance = lambda *a: True", r"builtins\.isinstance replaced"),
    "import": ("builtins.__import__ = None", r"builtins\.__import__ replaced"),
    "digest": ("spec.digest = lambda value, length: '0' * length", r"spec\.digest replaced"),
    "inside": ("spec.canonical_json.__code__ = (lambda value: '{}').__code__", r"spec\.canonical_json rewritten"),
    "numbers": ("spec.NUMBERS = 99", r"spec\.NUMBERS replaced"),
    "kinds": ("interfaces.KINDS.clear()", r"interfaces\.KINDS changed"),
    "run id": ("spec.RunSpec.run_id = 'mine'", r"RunSpec\.run_id replaced"),
    "run": ("spec.RunSpec.to_json = lambda self: {}", r"RunSpec\.to_json replaced"),
    "errors": ("errors.LopbenchError.exit_code = 0", r"LopbenchError\.exit_code replaced"),
    "another method": ("L2.version = 9", r"L2\.version added"),
    "another's hook": ("L2.penalty = lambda *a: None", r"L2\.penalty added"),
    "hidden name": ("spec.sorted = lambda *a, **k: []", r"spec\.sorted added"),
    "modules": ("sys.modules['lopbench.core.spec'] = None", r"the module lopbench\.core\.spec replaced"),
    "registry": ("plugins().registry._entries['methods'].clear()", "the registry of components changed"),
    "registry class": ("registry.Registry.get = None", r"Registry\.get replaced"),
}

#: What is raised, and what is told of it. Texts are cut, and characters that cannot be printed left out.
RAISED = {
    "exit": ("raise SystemExit(0)", "SystemExit: 0"),
    "exit of sys": ("sys.exit('bye')", "SystemExit: bye"),
    "generator": ("raise GeneratorExit", "GeneratorExit"),
    "base": ("raise type('Odd', (BaseException,), {})('odd')", "Odd: odd"),
    "interrupt": ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    "stop": ("raise StopIteration('enough')", "enough"),
    "text": ("raise type('E', (Exception,), {'__str__': lambda self: 1 / 0})", "E: .an error that cannot be told"),
    "exit in text": (
        "raise type('E', (Exception,), {'__str__': lambda self: sys.exit(0)})",
        "E: .an error that cannot",
    ),
    "surrogate": (r"raise ValueError('\udcff')", "ValueError: "),
    "escapes": (r"raise ValueError('\x1b[2Jgone')", "gone"),
    "long": ("raise ValueError('x' * 10**7)", "ValueError: xxx"),
    "deep": ("return deed()", "RecursionError"),
    "assertion": ("raise AssertionError('never')", "never"),
    "no memory": ("raise MemoryError('none')", "none|MemoryError"),
    "notes": ("raise type('N', (Exception,), {'add_note': lambda self, n: 1 / 0})('noted')", "noted|division"),
    "results": ("raise errors.ResultsError('full')", "full"),
    "usage": ("raise errors.UsageError('what')", "what"),
    "refusal": ("raise InvalidInputError('not like this')", "not like this"),
}

_METHOD = "EVIL = component(Perturbation, {hook}=doing({result}), as_program=False)"

#: Hooks of methods, with what they return; after what is raised in one, the runs of others go on.
HOOKS = {
    "configure": "lambda module, **options: module",
    "begin": "",
    "on_task_start": "",
    "batch": "lambda learner, state, inputs, targets: (inputs, targets)",
    "loss": "lambda learner, state, loss: loss",
    "penalty": "lambda learner, state: torch.zeros(learner.replicas)",
    "after_backward": "",
    "update": "",
    "after_step": "",
    "evaluated": "lambda learner, state: {}",
    "report": "lambda learner, state: {}",
}

_PLAIN = "EVIL = component(Perturbation, after_step=lambda self, learner, state: None, as_program=False)"

#: Hooks of methods that a program of several seeds calls as it is traced.
TRACED = {f"traced {hook}": hook for hook in ("batch", "loss", "penalty", "after_backward", "update", "after_step")}

#: Where something is done: the source, and of what kind the component is.
PLACES = {
    **{hook: (_METHOD.format(hook=hook, result=result), "methods") for hook, result in HOOKS.items()},
    **{place: (_METHOD.format(hook=hook, result=HOOKS[hook]), "methods") for place, hook in TRACED.items()},
    "import": (f"deed()\n{_PLAIN}", "methods"),
    "entry point": (f"deed()\n{_PLAIN}", "methods"),
    "entry point's begin": (_METHOD.format(hook="begin", result=""), "methods"),
    "class": (f"class Doing:\n    done = deed()\n\n\n{_PLAIN}", "methods"),
    "set name": (
        f"class Slot:\n    __set_name__ = doing()\n\n\nclass Has:\n    slot = Slot()\n\n\n{_PLAIN}",
        "methods",
    ),
    "metaclass": (
        "class Meta(ABCMeta):\n    def __init__(cls, *arguments, **options):\n        deed()\n\n\n"
        "class Base(Perturbation, metaclass=Meta):\n    pass\n\n\nEVIL = component(Base)",
        "methods",
    ),
    "subclass": (
        "class Base(Perturbation):\n    __init_subclass__ = classmethod(doing())\n\n\nEVIL = component(Base)",
        "methods",
    ),
    "registering": (f"{_PLAIN}\nREGISTERS = deed", "methods"),
    "made": ("EVIL = component(Perturbation, __post_init__=doing())", "methods"),
    "late": (
        "def after_step(self, learner, state):\n"
        "    state.host['steps'] = state.host.get('steps', 0) + 1\n"
        "    if state.host['steps'] == 5:\n        deed()\n\n\n"
        "EVIL = component(Perturbation, after_step=after_step, as_program=False)",
        "methods",
    ),
    "layer metric": ("EVIL = component(LayerMetric, compute=doing(lambda probe: 1.0))", "metrics"),
    "training metric": ("EVIL = component(TrainingMetric, compute=doing(lambda before, after: before))", "metrics"),
    "stream": (
        "def stream(self, seed, *, data, device):\n    deed()\n    return BitFlip.stream(self, seed, data=data, "
        "device=device)\n\n\nEVIL = component(BitFlip, stream=stream)",
        "scenarios",
    ),
    "build": (
        "def build(self, shape, outputs, *, generator):\n    deed()\n    return OnlineMLP.build(self, shape, outputs, "
        "generator=generator)\n\n\nEVIL = component(OnlineMLP, build=build)",
        "architectures",
    ),
    "optimizer": (
        "def init(self, parameter, *, hidden):\n    deed()\n    return {}\n\n\n"
        "EVIL = component(SGD, init=init, fused=lambda self, leaves: None)",
        "optimizers",
    ),
    "cloner": (
        "def clone(self, module, factor, *, example, generator):\n    deed()\n    return Tile.clone(self, module, "
        "factor, example=example, generator=generator)\n\n\nEVIL = component(Tile, clone=clone)",
        "cloners",
    ),
    "data": (
        "def read(self, path):\n    deed()\n    return Samples(content_hash='0' * 32)\n\n\n"
        "EVIL = component(DataSet, read=read, real=False, title='evil', terms='none')\n"
        "STREAMED = component(BitFlip, name=f'streaming-{NAME}', data=NAME)\n\n\n"
        "@hookimpl\ndef lopbench_scenarios(register):\n    register(STREAMED.name, STREAMED, 'streams it')",
        "data",
    ),
    "executor": (
        "class Nobody(Handle):\n    poll = stop = kill = lambda self: False\n\n\n"
        "def start(self, workers):\n    deed()\n    return Nobody()\n\n\n"
        "EVIL = component(Executor, start=start)",
        "executors",
    ),
}

#: Places that are come to as a plugin is imported.
_EARLY = ("import", "entry point", "class", "metaclass", "subclass", "registering")

#: Places that were added later, so that all others have the deeds that they had.
_MORE = ("entry point", "entry point's begin", "cloner", "data", "executor", "on_task_start", *TRACED)


def source(place, deed, name):
    """Return a plugin with a component ``name`` that does something at a place, and the kind of the component."""
    text, kind = PLACES[place]
    head = HEAD.replace("{deed}", f"    {deed}")
    return (
        f"NAME = {name!r}\n{head}\n{text}\nREGISTERS = globals().get('REGISTERS', lambda: None)\n\n\n"
        f"@hookimpl\ndef lopbench_{kind}(register):\n    REGISTERS()\n    register(NAME, EVIL, 'evil')\n",
        kind,
    )


def _cases():
    """Yield place, name of the deed, its source and what is told: settings and code at import and at another place."""
    late = [place for place in PLACES if place not in ("import", *_MORE)]
    hooks = [hook for hook in HOOKS if hook not in _MORE]
    named = {"made", *HOOKS}
    for number, (deed, (text, told)) in enumerate(CHANGES.items()):
        yield "import", deed, text, told
        yield late[number % len(late)], deed, text, told
    whole = [place for place in late if place not in named] + ["begin", "after_step", "report"]
    for number, (deed, (text, told)) in enumerate(CODE.items()):
        yield "import", deed, text, told
        yield whole[number % len(whole)], deed, text, told
    for number, (deed, (text, told)) in enumerate(RAISED.items()):
        yield _EARLY[number % len(_EARLY)], deed, text, told
        yield hooks[number % len(hooks)], deed, text, told
        yield (
            ("late", "layer metric", "training metric", "made", "stream", "build", "optimizer")[number % 7],
            deed,
            text,
            told,
        )
    deeds = [*CHANGES.items(), *CODE.items(), *RAISED.items()]
    for number, place in enumerate(_MORE):
        for deed, (text, told) in deeds[number :: len(_MORE)][: 1 if place in TRACED else 6]:
            yield place, deed, text, told


#: All hostile plugins by name: where they do what, and what is told of it.
CASES = {
    f"{place}-{deed}".replace(" ", "_").replace("'", ""): (place, text, told) for place, deed, text, told in _cases()
}
