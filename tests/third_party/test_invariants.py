"""What each method of the folder promises, against its definition written here once more."""

from dataclasses import fields as dataclass_fields

import pytest
import torch
from third_party_lab import BATCH, TASK_STEPS, Blobs, Lab, component, method, normalised, perceptron, same
from torch import nn
from torch.func import functional_call

from lopbench_plugins.optimizers.sgd import SGD

PLAIN = SGD(lr=0.1)
CLOSE = {"rtol": 1e-12, "atol": 1e-13}


def of(lab, replica=0):
    return {name: value[replica] for name, value in lab.parameters().items()}


def run(parameters, inputs, network=perceptron):
    """Return outputs of a plain network with these parameters."""
    return functional_call(network().double(), parameters, (inputs,))


def spied(made, hook):
    """Return the method with what ``hook`` returns kept in a list."""
    kept = []
    cls = type(made)

    def called(self, *arguments):
        kept.append(getattr(cls, hook)(self, *arguments))
        return kept[-1]

    spy = type(cls.__name__, (cls,), {hook: called, "__module__": cls.__module__})
    return spy(**{field.name: getattr(made, field.name) for field in dataclass_fields(made)}), kept


# --- upgd -------------------------------------------------------------------------------------------------------------


def test_upgd_without_utility_takes_half_a_step():
    ours, plain = (Lab(*methods, optimizer=PLAIN) for methods in ([method("upgd", noise=0.0)], []))
    for lab in (ours, plain):
        for parameter in lab.learner.view.parameters.values():
            parameter.zero_()
    assert plain.run(1).parameters()["4.bias"].any()
    torch.testing.assert_close(ours.run(1).parameters(), {n: v / 2 for n, v in plain.parameters().items()}, **CLOSE)


def test_upgd_holds_back_by_utility():
    ours, plain = (Lab(*m, optimizer=PLAIN) for m in ([method("upgd", noise=0.0, decay=0.0)], []))
    start = of(plain)
    gradients = {name: (start[name] - value) / PLAIN.lr for name, value in of(plain.run(1)).items()}
    utilities = {name: -gradient * start[name] for name, gradient in gradients.items()}
    largest = max(float(utility.max()) for utility in utilities.values())
    ours.run(1)
    for name, value in of(ours).items():
        step = PLAIN.lr * gradients[name] * (1 - torch.sigmoid(utilities[name] / largest))
        torch.testing.assert_close(value, start[name] - step, rtol=1e-9, atol=1e-12)


# --- polar ------------------------------------------------------------------------------------------------------------


def test_polar_moves_hidden_matrices_by_lr_in_all_directions_and_the_rest_by_sgd():
    ours, plain = Lab(optimizer=component("optimizers", "polar", lr=0.01, iterations=60)), Lab(optimizer=SGD(lr=0.01))
    start, ours, plain = of(ours), of(ours.run(1)), of(plain.run(1))
    for name, value in ours.items():
        if name in ("0.weight", "2.weight"):
            values = torch.linalg.svdvals(value - start[name]) / 0.01
            assert ((values - 1).abs() < 1e-6).sum() >= 3  # of a gradient of few samples most are zero
            assert (values < 1 + 1e-6).all()
        else:
            torch.testing.assert_close(value, plain[name], **CLOSE)


# --- replay -----------------------------------------------------------------------------------------------------------


def test_replay_trains_on_the_last_samples_and_is_scored_on_those_of_the_stream():
    lab = Lab(method("replay", samples=40, capacity=12), seeds=(0, 1)).run(7)
    past = torch.cat([torch.stack([Blobs(s, 0).batch(step)[0] for s in (0, 1)]) for step in range(8)], dim=1)
    inputs, targets = lab.batch()
    view = lab.learner.view
    with torch.no_grad():
        losses, scores = view.loss_and_score(view.forward(inputs), targets)
    taken = lab.learner.step(list(zip(inputs, targets, strict=True)))
    torch.testing.assert_close(taken.losses, losses, **CLOSE)
    torch.testing.assert_close(taken.scores, scores, **CLOSE)
    assert view.inputs.shape[1] == BATCH + 40
    assert torch.equal(view.inputs[:, :BATCH], inputs)
    for replica in (0, 1):
        drawn = {tuple(sample.tolist()) for sample in view.inputs[replica, BATCH:]}
        assert drawn <= {tuple(sample.tolist()) for sample in past[replica, -12:]}
        assert len(drawn) > BATCH  # others than those of this step


# --- dash -------------------------------------------------------------------------------------------------------------


def test_dash_shrinks_rows_by_their_cosine_with_the_coming_gradients():
    lab = Lab(method("dash", floor=0.3, share=0.4)).run(TASK_STEPS)
    before = of(lab)
    means = {name: torch.zeros_like(value) for name, value in before.items()}
    coming = Blobs(0, 1)
    for step in range(coming.epoch):
        inputs, targets = coming.batch(step)
        leaves = {name: value.clone().requires_grad_() for name, value in before.items()}
        gradients = torch.autograd.grad(coming.loss(run(leaves, inputs), targets), list(leaves.values()))
        means = {n: 0.6 * means[n] - 0.4 * g for n, g in zip(leaves, gradients, strict=True)}
    lab.begin(1)
    factors = []
    for name, value in of(lab).items():
        cosine = (means[name] * before[name]).sum(-1) / (means[name].norm(dim=-1) * before[name].norm(dim=-1))
        factor = cosine.nan_to_num(0.0).clamp(0.3, 1)  # a dead unit's row has no gradient
        factors += factor.flatten().tolist()
        torch.testing.assert_close(value, before[name] * factor.unsqueeze(-1), **CLOSE)
    assert min(factors) == 0.3 < max(factors) <= 1
    assert lab.learner.boundary.samples_ahead == coming.epoch * BATCH


# --- c_chain ----------------------------------------------------------------------------------------------------------


def test_c_chain_is_the_change_of_outputs_by_the_last_update():
    made, penalties = spied(method("c_chain", strength=0.5), "penalty")
    lab = Lab(made)
    seen = []
    for _ in range(3):
        seen.append((of(lab), lab.batch()[0][0]))
        lab.run(1)
    now, before = seen[2][0], seen[1][0]
    churn = (run(now, seen[1][1]) - run(before, seen[1][1])).square().mean()
    assert penalties[0] == 0
    torch.testing.assert_close(penalties[2], 0.25 * churn.reshape(1), **CLOSE)


# --- infer ------------------------------------------------------------------------------------------------------------


def test_infer_starts_at_the_square_of_the_multiple_less_one():
    made, penalties = spied(method("infer", strength=0.01, scale=10.0, heads=4), "penalty")
    lab = Lab(made)
    start, inputs = of(lab), lab.batch()[0][0]
    body = perceptron()[:4]
    features = functional_call(body.double(), {n: v for n, v in start.items() if n[0] in "02"}, (inputs,))
    heads = nn.functional.linear(features, start["infer_weight"], start["infer_bias"])
    lab.run(1)
    torch.testing.assert_close(penalties[0], 0.01 * 81 * heads.square().mean().reshape(1), **CLOSE)
    assert not torch.equal(of(lab)["infer_weight"], start["infer_weight"])


# --- plasticity injection ---------------------------------------------------------------------------------------------


def test_injection_is_no_change_before_and_at_its_boundary_and_trains_as_many_parameters_after_it():
    lab, plain = Lab(method("plasticity_injection", boundary=2)).run(2 * TASK_STEPS), Lab().run(2 * TASK_STEPS)
    assert same({name: value for name, value in of(lab).items() if name in of(plain)}, of(plain))
    optimizer, view = lab.learner.optimizer, lab.learner.view

    def trained():
        return {
            n: leaf.numel() for n, leaf in lab.learner.leaves.items() if leaf.requires_grad and n not in optimizer.held
        }

    inputs, count = lab.batch()[0], sum(trained().values())
    assert count == sum(value.numel() for value in of(plain).values())
    outputs = view.forward(inputs).outputs
    torch.testing.assert_close(outputs[0], run(of(plain), inputs[0]), **CLOSE)
    before = of(lab)
    lab.begin(2)
    assert torch.equal(view.forward(inputs).outputs, outputs)
    assert sum(trained().values()) == count
    lab.step += 1  # the boundary is behind it
    lab.run(5)
    moved = {name for name, value in of(lab).items() if not torch.equal(value, before[name])}
    assert moved == set(trained()) == {*before} - {"4.weight", "4.bias", "4.start_weight", "4.start_bias"}


# --- hare and tortoise ------------------------------------------------------------------------------------------------


def test_the_tortoise_is_the_running_mean_of_parameters_and_buffers_and_what_is_evaluated():
    lab = Lab(method("hare_tortoise", momentum=0.9, every=1000), network=normalised)
    slow = {**of(lab), **{n: v[0].clone() for n, v in lab.learner.view.buffers.items()}}
    for _ in range(4):
        lab.run(1)
        fast = {**of(lab), **{n: v[0] for n, v in lab.learner.view.buffers.items()}}
        slow = {n: 0.9 * v + 0.1 * fast[n] if v.is_floating_point() else fast[n].clone() for n, v in slow.items()}
    torch.testing.assert_close(lab.evaluated(), slow, **CLOSE)
    assert not torch.equal(slow["1.running_mean"], lab.learner.view.buffers["1.running_mean"][0])


def test_the_hare_becomes_the_tortoise_and_shares_no_memory():
    lab = Lab(method("hare_tortoise", momentum=0.9, every=4), network=normalised).run(4)
    slow, view = lab.learner.states[0].tensors, lab.learner.view
    for name, fast in {**view.parameters, **view.buffers}.items():
        assert torch.equal(fast, slow[f"slow/{name}"])
        assert fast.untyped_storage().data_ptr() != slow[f"slow/{name}"].untyped_storage().data_ptr()
    assert not same(lab.run(1).evaluated(), of(lab))


# --- crelu ------------------------------------------------------------------------------------------------------------


def convolutional():
    return nn.Sequential(
        nn.Unflatten(1, (1, 2, 3)),
        nn.Conv2d(1, 4, 2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8, 5),
        nn.ReLU(),
        nn.Linear(5, 3),
    )


@pytest.mark.parametrize(("network", "fans"), [(perceptron, [6, 16, 14]), (convolutional, [1, 16, 10])])
def test_crelu_doubles_the_inputs_of_all_readers_and_loses_nothing(network, fans):
    lab = Lab(method("crelu"), network=network).run(3)
    module = lab.learner.network.module
    readers = [m for m in module.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    assert [m.weight.shape[1] for m in readers] == fans
    names = lab.learner.network.layers
    assert len(names) == 2
    z = torch.randn(5, 4, dtype=torch.float64)
    positive, negative = module.get_submodule(names[0])(z).chunk(2, dim=1)
    assert torch.equal(positive - negative, z)
    assert not (positive * negative).any()


# --- warm up ----------------------------------------------------------------------------------------------------------


def test_warm_up_scales_each_step_exactly():
    lab = Lab(method("warm_up", steps=8), optimizer=PLAIN, seeds=(0, 1))
    for step in range(2 * TASK_STEPS):
        at = step % TASK_STEPS
        if step and at == 0:
            lab.begin(step // TASK_STEPS)
        factor = min(1.0, (at + 1) / 8)
        torch.testing.assert_close(
            lab.learner.optimizer.lr, torch.full((2,), 0.1 * factor, dtype=torch.float64), **CLOSE
        )
        plain, before = Lab(optimizer=PLAIN, seeds=(0, 1)), lab.parameters()
        for name, parameter in plain.learner.view.parameters.items():
            parameter.copy_(before[name])
        inputs, targets = lab.batch()
        for each in (plain, lab):
            each.learner.step(list(zip(inputs, targets, strict=True)))
        lab.step += 1
        for name, value in lab.parameters().items():
            full = plain.parameters()[name] - before[name]
            torch.testing.assert_close(value, before[name] + factor * full, rtol=1e-9, atol=1e-12)


# --- effective rank ---------------------------------------------------------------------------------------------------


def test_the_rank_penalty_is_the_effective_rank_and_its_slope_raises_it():
    made, penalties = spied(method("rank_penalty", strength=0.5), "penalty")
    lab = Lab(made, optimizer=SGD(lr=1e-30)).run(1)
    features = lab.learner.view.features[0]
    values = torch.linalg.svdvals(features)
    shares = (values / values.sum())[values > 1e-9]
    rank = torch.exp(-(shares * shares.log()).sum())
    torch.testing.assert_close(penalties[0].detach(), -0.5 * rank.reshape(1), rtol=1e-9, atol=1e-12)

    with_it, without = (Lab(*m, optimizer=SGD(lr=0.05)).run(20) for m in ([method("rank_penalty", strength=1.0)], []))
    inputs = with_it.batch()[0]
    ranks = []
    for each in (with_it, without):
        values = torch.linalg.svdvals(each.learner.view.forward(inputs).features[0])
        shares = values / values.sum()
        ranks.append(float(torch.special.entr(shares).sum().exp()))
    assert ranks[0] > ranks[1] + 0.1


def test_dead_features_have_a_finite_rank_and_slope():
    lab = Lab(method("rank_penalty", strength=1.0))
    lab.learner.view.parameters["2.bias"].fill_(-100.0)
    assert all(value.isfinite().all() for value in lab.run(3).parameters().values())
