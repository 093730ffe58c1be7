import math

import numpy as np
import pytest
import torch

from lopbench.core.errors import DataError, InvalidInputError, UnsupportedError
from lopbench.core.spec import parse_scenario
from lopbench.data.arrays import ArraySet
from lopbench.learner import evaluation
from lopbench.learner.learner import StackLearner
from lopbench.learner.program import Program, why_not
from lopbench_plugins.architectures.char_transformer import CharTransformer
from lopbench_plugins.architectures.mlp import MLP
from lopbench_plugins.optimizers.adam import Adam
from lopbench_plugins.scenarios.permuted_text import PermutedText

CPU = torch.device("cpu")
SMALL = {"tasks": 5, "passages": 12, "length": 6, "steps_per_task": 9, "batch_size": 4}


def text_set(text, vocabulary=None):
    text = np.frombuffer(text, np.uint8)
    found = np.unique(text) if vocabulary is None else np.frombuffer(vocabulary, np.uint8)
    return ArraySet(name="letters", content_hash="0" * 64, arrays={"text": text, "vocabulary": found})


#: Each letter is followed by the next one, so that a passage tells its place but for whole alphabets; the end is in
#: capitals.
TEXT = b"abcdefghijklmnopqrstuvwxyz" * 20 + b"ABCDEFGHIJ" * 6
LETTERS = text_set(TEXT)


def stream(seed=0, data=LETTERS, **fields):
    return PermutedText(**{**SMALL, **fields}).stream(seed, data=data, device=CPU)


def written(task, inputs, targets):
    """Return passages of a task as letters."""
    back = torch.argsort(task.exchanged)
    rows = torch.cat([inputs, targets[:, -1:]], dim=1)
    return [bytes(LETTERS["vocabulary"][back[row].numpy()]) for row in rows]


def passages(task, steps=3):
    batches = task.batches()
    return [each for _ in range(steps) for each in written(task, *next(batches))]


# -- the samples


def test_passages_are_of_the_text_and_targets_are_what_follows():
    found = stream()
    task = found.task(1)
    for passage in passages(task):
        assert len(passage) == 7
        assert passage in TEXT
    inputs, targets = next(task.batches())
    assert torch.equal(inputs[:, 1:], targets[:, :-1])
    assert (found.inputs, found.input_shape, found.outputs) == ("tokens", (6,), 36)


def test_a_task_exchanges_the_characters_of_the_same_passages_one_to_one():
    found = stream()
    tasks = [found.task(index) for index in range(3)]
    assert len({frozenset(passages(task)) for task in tasks}) == 1
    assert len({tuple(task.exchanged.tolist()) for task in tasks}) == 3
    assert all(sorted(task.exchanged.tolist()) == list(range(36)) for task in tasks)


def test_a_pass_is_over_all_passages_in_another_order_each():
    task = stream().task(0)
    assert task.epoch == 3
    found = passages(task, 6)
    assert sorted(found[:12]) == sorted(found[12:])
    assert found[:12] != found[12:]


def test_what_is_held_out_is_the_end_of_the_text():
    found = stream()
    task = found.task(2)
    ((inputs, targets),) = task.held_out()
    held_out = written(task, inputs, targets)
    assert all(passage.isupper() for passage in held_out)
    assert not any(passage.isupper() for seed in range(10) for passage in passages(stream(seed).task(0)))


def test_another_seed_has_other_passages_and_characters():
    ours, again, theirs = (stream(seed).task(0) for seed in (0, 0, 1))
    assert passages(ours) == passages(again)
    assert set(passages(ours)) != set(passages(theirs))
    assert ours.exchanged.tolist() != theirs.exchanged.tolist()


def test_chunks_are_the_batches_one_by_one():
    single, chunked = (stream().task(0).batches() for _ in range(2))
    expected = [next(single) for _ in range(5)]
    ((inputs, targets),) = chunked.take(5)
    assert torch.equal(inputs, torch.stack([x for x, _ in expected]))
    assert torch.equal(targets, torch.stack([y for _, y in expected]))


# -- loss, score, chance


def test_loss_and_score_are_the_mean_cross_entropy_in_nats():
    task = stream().task(0)
    outputs = torch.randn(4, 6, 36, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    _, targets = next(task.batches())
    chosen = outputs.log_softmax(dim=2).gather(2, targets.unsqueeze(2)).squeeze(2)
    torch.testing.assert_close(task.loss(outputs, targets), -chosen.mean())
    torch.testing.assert_close(task.score(outputs, targets), -chosen.mean(dim=1))
    right = task.held_out_scores(outputs, targets)["heldout_accuracy"]
    torch.testing.assert_close(right, (outputs.argmax(2) == targets).double().mean(1))


def test_chance_is_the_loss_of_the_best_constant():
    found = stream()
    task = found.task(3)
    batches = task.batches()
    targets = torch.cat([next(batches)[1] for _ in range(3)])
    shares = targets.flatten().bincount(minlength=36).double() / targets.numel()
    constant = shares.log().clamp(min=-100).expand(12, 6, 36)
    assert task.chance == pytest.approx(task.loss(constant, targets).item(), rel=1e-9)
    assert task.chance == found.task(0).chance
    assert math.log(8) < task.chance < math.log(26)


# -- with the network


def learner(streams, architecture=CharTransformer(width=8, hidden=12)):  # noqa: B008
    inputs, targets = next(streams[0].task(0).batches())
    made = StackLearner(
        build=lambda generator: architecture.build((6,), 36, generator=generator),
        seeds=tuple(range(len(streams))),
        methods=[],
        optimizer=Adam(lr=1e-2),
        example=inputs,
        targets=targets,
        tokens=True,
        outputs=36,
        head=architecture.head,
        layers=architecture.layers,
        dtype=torch.float64,
    )
    tasks = [each.task(0) for each in streams]
    made.begin_task(0, tasks, first=True, reset_optimizer=False, zero_head=False)
    return made


def test_seeds_train_as_one_program_as_they_do_one_by_one():
    streams = [stream(seed) for seed in (0, 1)]
    one_by_one, together = learner(streams), learner(streams)
    batches = [each.task(0).batches() for each in streams]
    for _ in range(8):
        one_by_one.step([next(each) for each in batches])
    first = [
        tuple(torch.stack(part) for part in zip(*(next(each.task(0).batches()) for each in streams), strict=True)),
    ]
    assert why_not(together, streams[0].task(0), first) is None
    program = Program(together, streams[0].task(0), first, unroll=4, compiled=False)
    taken = [each.task(0).batches().take(8)[0] for each in streams]
    program.advance(together, [tuple(zip(*taken, strict=True))])
    for name, value in one_by_one.view.parameters.items():
        torch.testing.assert_close(value, together.view.parameters[name], rtol=1e-9, atol=1e-11)


def test_the_text_is_learned_and_forgotten_where_characters_are_exchanged():
    streams = [stream()]
    made, tasks = learner(streams), [streams[0].task(index) for index in (0, 1)]
    batches = tasks[0].batches()
    losses = [made.step([next(batches)]).losses.item() for _ in range(120)]
    assert losses[0] > 0.9 * math.log(36)
    assert losses[-1] < 0.5
    made.begin_task(1, [tasks[1]], first=False, reset_optimizer=False, zero_head=False)
    assert made.step([next(tasks[1].batches())]).losses.item() > 2
    assert evaluation.evaluate(made, 0, tasks[1]).keys() == {"heldout_score", "heldout_accuracy"}


def test_a_network_without_an_embedding_is_refused_before_training():
    with pytest.raises(UnsupportedError, match="the stream is of tokens, and Sequential has no embedding"):
        learner([stream()], architecture=MLP(widths=(8,)))


# -- the protocol


def test_snr_is_the_published_protocol():
    found = parse_scenario("permuted_text", "snr").build()
    assert (found.tasks, found.length, found.batch_size) == (500, 128, 8)
    assert found.steps_per_task == 100 * found.passages // found.batch_size
    assert (found.score, found.headline, found.head_policy) == ("error", "trainability", "keep")


def test_lite_is_the_protocol_that_was_calibrated():
    lite = parse_scenario("permuted_text").build()
    assert (lite.profile, lite.tasks, lite.passages, lite.length, lite.steps_per_task) == ("lite", 60, 256, 32, 300)
    assert (lite.head_policy, lite.optimizer_policy) == ("keep", "carry")
    assert lite.recipe("char_transformer").reference == "adam:lr=3e-3"


def test_passages_that_are_no_whole_batches_are_refused():
    told = "passages must be a multiple of batch_size, got passages={} and batch_size=4; the nearest is passages={}"
    for passages, nearest in ((11, 12), (9, 8), (1, 4)):
        with pytest.raises(InvalidInputError, match=told.format(passages, nearest)):
            PermutedText(passages=passages, batch_size=4)


def test_bytes_outside_the_vocabulary_are_refused_before_training():
    with pytest.raises(
        DataError, match=r"text of letters has 2 different bytes that its vocabulary of 34 has not, the"
    ):
        stream(data=text_set(TEXT, b"".join(sorted({bytes([byte]) for byte in TEXT} - {b"b", b"c"}))))


@pytest.mark.parametrize("vocabulary", [b"cab", b"aabc"])
def test_a_vocabulary_of_which_places_are_no_tokens_is_refused_before_training(vocabulary):
    with pytest.raises(DataError, match="vocabulary of letters must have each byte once, in order"):
        stream(data=text_set(np.frombuffer(b"abc" * 50, np.uint8), vocabulary))


def test_a_text_that_is_too_short_is_refused_before_training():
    with pytest.raises(DataError, match="needs at least 14 characters, and tiny-shakespeare has 13; lower length"):
        stream(data=text_set(TEXT[:13]))
    stream(data=text_set(TEXT[:14])).task(0)
    with pytest.raises(DataError, match="needs at least 20,002 characters, and tiny-shakespeare has 1,400; lower"):
        stream(data=text_set(TEXT[:14] * 100), length=10_000)


def test_a_data_set_that_is_no_text_is_refused_before_training(numbered):
    scenario = PermutedText(data="mnist")
    with pytest.raises(
        DataError, match="needs a data set with the arrays text and vocabulary, and mnist is none; name"
    ):
        scenario.stream(0, data=numbered(), device=CPU)
