from typing import Any

import pytest
from learner_toys import SGD, Noise, method
from torch import nn

from lopbench.core.errors import UnsupportedError, UsageError
from lopbench.core.interfaces import Perturbation
from lopbench.learner.excluding import check_pairs


class Even(nn.Module):
    """A layer of no kind that others know."""

    def forward(self, x: Any) -> Any:
        return x.abs()


class Odd(Even):
    """Another one."""


def putting(name: str, new: type[nn.Module], **more: Any) -> Perturbation:
    """Return a method that puts a layer in the place of each ReLU, and takes no network without any."""

    def configure(self: Perturbation, module: nn.Module, **others: Any) -> nn.Module:
        assert isinstance(module, nn.Sequential)
        places = [place for place, layer in enumerate(module) if type(layer) is nn.ReLU]
        if not places:
            raise UnsupportedError(f"{name}: there is no ReLU")
        for place in places:
            module[place] = new()
        return module

    return method(name=name, configure=configure, **more)


def test_two_that_replace_the_same_layers_exclude_each_other() -> None:
    sentence = "^methods 'even' and 'odd' exclude each other: both replace every ReLU; choose one of them$"
    with pytest.raises(UsageError, match=sentence):
        check_pairs([putting("even", Even), Noise(), putting("odd", Odd)], SGD)


def asking(name: str) -> Perturbation:
    """Return a method that takes no network without ReLU, and changes none."""

    def begin(self: Perturbation, learner: Any, state: Any) -> None:
        if not any(type(layer) is nn.ReLU for layer in learner.module.modules()):
            raise UnsupportedError(f"{name}: there is no ReLU")

    return method(name=name, begin=begin)


def test_one_that_refuses_what_another_made_of_the_network_excludes_it() -> None:
    for pair in ([putting("even", Even), asking("asking")], [asking("asking"), putting("even", Even)]):
        with pytest.raises(UsageError, match=r"exclude each other, as .*there is no ReLU; choose one of them$"):
            check_pairs(pair, SGD)


def first(name: str) -> Perturbation:
    """Return a method that is built into networks of ReLU alone, whatever becomes of these."""

    def configure(self: Perturbation, module: nn.Module, **others: Any) -> nn.Module:
        if not any(type(layer) is nn.ReLU for layer in module.modules()):
            raise UnsupportedError(f"{name}: there is no ReLU")
        return module

    return method(name=name, configure=configure)


def test_the_order_that_works_is_told() -> None:
    with pytest.raises(UsageError, match=r"^method 'first' cannot act after 'even': .*; write first\+even$"):
        check_pairs([putting("even", Even), first("first")], SGD)
    check_pairs([first("first"), putting("even", Even)], SGD)


def failing(error: Exception) -> Perturbation:
    def configure(self: Perturbation, module: nn.Module, **others: Any) -> nn.Module:
        raise error

    return method(name="failing", configure=configure)


@pytest.mark.parametrize("error", [UnsupportedError("failing: not this one"), RuntimeError("a fault")], ids=str)
def test_what_a_method_does_not_take_alone_is_left_to_the_run(error: Exception) -> None:
    check_pairs([putting("even", Even), failing(error)], SGD)


def test_methods_at_strength_zero_exclude_nobody() -> None:
    check_pairs([putting("even", Even), putting("odd", Odd, active=False)], SGD)
