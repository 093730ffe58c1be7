import pytest
import torch
from learner_toys import Noise, make
from torch import Generator

from lopbench.core import rng
from lopbench.core.errors import InvalidInputError
from lopbench.learner.memory import Generators, MethodState


def memory(seeds: tuple[int, ...] = (0, 1)) -> MethodState:
    return MethodState(Generators([rng.derive(seed, "memory") for seed in seeds]))


def test_methods_draw_from_streams_of_their_own() -> None:
    alone, beside = make(seeds=(7,), methods=[Noise()]), make(seeds=(5, 7), methods=[Noise(), Noise()])

    def draw(generator: Generator) -> float:
        return torch.rand((), generator=generator).item()

    assert draw(alone.states[0].generators[0]) == draw(beside.states[0].generators[1])
    draws = {draw(generator) for state in beside.states for generator in state.generators}
    assert len(draws) == 4


@pytest.mark.parametrize("kind", ["normal", "uniform"])
def test_noise_of_a_replica_is_drawn_from_its_generator(kind: str) -> None:
    like = torch.zeros(2, 40, 50, dtype=torch.float64)
    drawn = getattr(memory(), kind)(like)
    assert drawn.shape == like.shape
    assert drawn.dtype == like.dtype
    assert torch.equal(getattr(memory((1,)), kind)(like[:1])[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[1])
    # Of 4,000 numbers the mean is within four standard errors of 0 and 1/2, the largest where it belongs.
    if kind == "normal":
        assert abs(drawn.mean()) < 4 / 4000**0.5
        assert 2 < drawn.abs().max() < 6
    else:
        assert abs(drawn.mean() - 0.5) < 4 * 12**-0.5 / 4000**0.5
        assert drawn.min() >= 0
        assert drawn.max() < 1


def test_what_is_kept_hangs_in_no_graph() -> None:
    state = memory()
    state["kept"] = 2 * torch.ones(2, requires_grad=True)
    assert not state["kept"].requires_grad
    assert "kept" in state
    assert "other" not in state


@pytest.mark.parametrize("value", [0, 0.5, [1, 2], None])
def test_what_is_kept_is_a_tensor(value: object) -> None:
    with pytest.raises(InvalidInputError, match=r"^state\['k'\] must be a tensor, got .* go into state\.host\['k'\]$"):
        memory()["k"] = value  # type: ignore[assignment]


def test_saved_memory_comes_back_with_its_types_and_shares_none() -> None:
    state = memory()
    state["mask"], state["age"] = torch.tensor([True, False]), torch.tensor([1, 2])
    state.host.update(step=7, rate=0.25)
    other = memory()
    other.host["forgotten"] = 1
    other["forgotten"] = torch.zeros(1)
    other.load_state_dict(state.state_dict(), torch.device("cpu"))
    assert dict(other.host) == {"step": 7, "rate": 0.25}
    assert [type(value) for value in other.host.values()] == [int, float]
    assert other.tensors.keys() == {"mask", "age"}
    assert other["mask"].dtype == torch.bool
    other["age"].zero_()
    assert state["age"].tolist() == [1, 2]


@pytest.mark.parametrize("key", [3, None, "a\nb", "a\x1b[2J", "\udcff", "host/count"])
def test_what_is_kept_has_a_name_that_a_checkpoint_keeps(key: object) -> None:
    with pytest.raises(InvalidInputError, match=r"state\["):
        MethodState(Generators([]))[key] = torch.zeros(1)  # type: ignore[index]


@pytest.mark.parametrize("value", ["three", None, [1], torch.ones(1), 2**63, -(2**63) - 1, 10**50])
def test_numbers_on_the_host_are_numbers_that_a_checkpoint_keeps(value: object) -> None:
    state = MethodState(Generators([]))
    with pytest.raises(InvalidInputError, match=r"state\.host\['count'\]"):
        state.host["count"] = value  # type: ignore[assignment]
    with pytest.raises(InvalidInputError, match=r"state\.host\['count'\]"):
        state.host.update(count=value)  # type: ignore[arg-type]
    for key, number in {"steps": 2**63 - 1, "least": -(2**63), "rate": float("inf"), "on": True}.items():
        state.host[key] = number
    again = MethodState(Generators([]))
    again.load_state_dict(state.state_dict(), torch.device("cpu"))
    assert again.host == state.host
