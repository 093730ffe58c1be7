"""What third parties write passes the checks, a method also beside ``l2`` (`composes`); what is broken does not."""

import sys
from dataclasses import replace

import pytest
import torch
from third_party_lab import component, loaded

from lopbench.core.interfaces import KINDS
from lopbench.testing import checks, examples, parametrize_with_checks

COMPONENTS = [each for kind in KINDS for entry in loaded().registry.entries(kind) for each in examples(entry.load())]


@parametrize_with_checks(COMPONENTS)
def test_every_component_conforms(component, check):
    check(component)


def smoke(name):
    (made,) = examples(loaded().registry.get("scenarios", name).load())
    return made, sys.modules[type(made).__module__]


def draws_from_anywhere(self, outputs):
    """Act on a global random number."""
    arm = (torch.rand(len(outputs)) < 0.5).float()
    return torch.stack([arm, arm], dim=1)


def acts_alike_for_every_seed(self, outputs):
    """Act as the outputs say, and be rewarded for it whatever the seed."""
    arm = outputs.argmax(dim=1).float()
    return torch.stack([arm, arm], dim=1)


@pytest.mark.parametrize("observe", [draws_from_anywhere, acts_alike_for_every_seed])
def test_an_agent_that_does_not_depend_on_its_seed_alone_is_caught(observe, monkeypatch):
    scenario, module = smoke("bandit")
    monkeypatch.setattr(module.Pulls, "observe", observe)
    assert outcome(scenario, "stream-depends-on-the-seed-alone").status == "failed"


def test_rewards_that_are_no_chance_are_caught(monkeypatch):
    scenario, module = smoke("bandit")
    monkeypatch.setattr(module.BanditTask, "chance", 0.3)
    assert outcome(scenario, "chance-is-as-declared").status == "failed"


def test_tokens_beyond_the_last_are_caught(monkeypatch):
    scenario, module = smoke("characters")
    text = module.CharacterTask.text
    monkeypatch.setattr(module.CharacterTask, "text", lambda *args: tuple(part + 1 for part in text(*args)))
    found = outcome(scenario, "shapes-are-as-declared")
    assert (found.status, found.expected) == ("failed", f"tokens from 0 to {scenario.alphabet - 1}")


def test_outputs_of_another_shape_are_caught(monkeypatch):
    transformer = replace(component("architectures", "token_transformer"), width=8, hidden=12)
    module = sys.modules[type(transformer).__module__]
    forward = module.Transformer.forward
    monkeypatch.setattr(module.Transformer, "forward", lambda self, tokens: forward(self, tokens).mean(dim=2))
    assert outcome(transformer, "several-sizes-are-built").status == "failed"


def outcome(component, name):
    (check,) = [check for check in checks(component) if check.name == name]
    found = check.run(component)
    assert found.status != "failed" or found.expected != "no error", found.found
    return found
