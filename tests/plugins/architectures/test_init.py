"""The registration of the built-in architectures."""

import importlib
import os
import subprocess
import sys

from lopbench.core.interfaces import Architecture
from lopbench_plugins.architectures import lopbench_architectures


def registered():
    entries = []
    lopbench_architectures(lambda name, target, summary: entries.append((name, target, summary)))
    return entries


def test_registered_names_lead_to_the_classes_that_bear_them():
    for name, target, summary in registered():
        module, _, attribute = target.partition(":")
        component = getattr(importlib.import_module(module), attribute)
        assert issubclass(component, Architecture)
        assert component.name == name
        assert summary
    names = [
        "mlp",
        "cnn",
        "convnet",
        "resnet18",
        "vit",
        "timm",
        "online_mlp",
        "char_transformer",
        "actor_critic",
        "linear",
    ]
    assert [name for name, _, _ in registered()] == names


def test_registering_imports_no_torch():
    program = (
        "import sys; from lopbench_plugins.architectures import lopbench_architectures as hook; "
        "hook(lambda *entry: None); sys.exit('torch' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    assert subprocess.run([sys.executable, "-c", program], env=environment, check=False).returncode == 0
