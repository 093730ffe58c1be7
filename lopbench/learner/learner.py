"""The learner: a stack of ``R`` replicas, each an independent network with its own seed, trained side by side.

Every tensor that a method or metric sees leads with the replica axis. With one replica the module is called directly,
and the stack's tensors are views of its parameters, so that the axis costs nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Generator, Tensor, nn
from torch.func import stack_module_state

from lopbench.core import fields, rng
from lopbench.core.interfaces import Optimizer, Perturbation, Task, TrainingMetric
from lopbench.core.probe import NetworkProbe
from lopbench.core.profile import Profile
from lopbench.learner import evaluation, probing, saving
from lopbench.learner.boundary import Boundary, stacked_batch
from lopbench.learner.engines import Eager
from lopbench.learner.fused import StackOptimizer
from lopbench.learner.head import find_head
from lopbench.learner.hooks import Acting, Hooks, labels_of
from lopbench.learner.memory import Generators, MethodState
from lopbench.learner.network import Network, Tensors, activation_layers
from lopbench.learner.nursery import Build, Nursery
from lopbench.learner.optimizers import hidden_matrices
from lopbench.learner.probing import Seen
from lopbench.learner.step import Taken, take_step
from lopbench.learner.trial import is_random
from lopbench.learner.view import View


def stacked_method(methods: Sequence[Perturbation]) -> Perturbation:
    """Return one method for all replicas. Fields that differ between them become tensors ``(R,)`` of float64.

    Args:
        methods: The method of each replica. All are of one class, and differ only in fields that may be swept.
    """
    first = methods[0]
    made = copy.copy(first)  # not `replace`, whose checks accept numbers only
    for field in fields.swept(type(first)):
        values = [getattr(method, field) for method in methods]
        if any(value != values[0] for value in values):
            object.__setattr__(made, field, torch.tensor(values, dtype=torch.float64))
    return made


def _places(methods: Sequence[Perturbation]) -> list[int]:
    """Return the index of each method among those that are on; it names the method's random stream.

    So a method at strength zero does not change the random numbers of the others.
    """
    return [sum(method.active for method in methods[:place]) for place in range(len(methods))]


class StackLearner:
    """A stack of networks in training, under an optimizer and any number of methods.

    Args:
        build: Makes one network from a generator.
        seeds: Seed of each replica.
        methods: The methods, in the order in which they act. Each serves all replicas, see `stacked_method`.
        optimizer: The optimizer of the run.
        rates: Learning rate of each replica; None for the optimizer's.
        reference_optimizer: The optimizer of the protocol's fresh reference, for `restart`.
        example: A batch of the stream's inputs, ``(N, *input_shape)``; zeros where only the shape is known.
        targets: Targets of such a batch, ``(N, ...)``; None where no method asks for their shape.
        tokens: Whether inputs are whole numbers that are never cast.
        outputs: Number of outputs of the head.
        head: Returns the name of a network's head; None means that it is to be found.
        layers: Returns the names of the layers to probe; None means every activation function.
        device: Device of all tensors.
        dtype: Type of parameters, and of inputs that are not tokens.
        init_index: Index t of the random stream ``("init", t)`` of the first initialisation. All networks of a seed
            that start at task t draw from it, so they start equal.
        age: Steps of the stream between the turn-on of the methods and the first step of the learner, at least 0.
        waiting: Whether the methods wait for `turn_on`. Their changes to the network are built in either way.
        clones: Cloned networks to start from, one for each replica, and the profile of what is a clone of what.
            ``build`` then makes networks of the same width, and is called only to draw something anew.

    Raises:
        UnsupportedError: If a method cannot serve the network.
    """

    def __init__(
        self,
        *,
        build: Build,
        seeds: Sequence[int],
        methods: Sequence[Perturbation] = (),
        optimizer: Optimizer,
        rates: Sequence[float] | None = None,
        reference_optimizer: Optimizer | None = None,
        example: Tensor,
        targets: Tensor | None = None,
        tokens: bool = False,
        outputs: int,
        head: Callable[[nn.Module], str | None] = lambda module: None,
        layers: Callable[[nn.Module], Sequence[str] | None] = lambda module: None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        init_index: int = 0,
        age: int = 0,
        waiting: bool = False,
        clones: tuple[Sequence[nn.Module], Profile] | None = None,
    ) -> None:
        self.seeds = tuple(seeds)
        self.replicas = len(self.seeds)
        self.age = age
        self.methods = tuple(methods)
        self.device = torch.device(device)
        self.dtype = dtype
        self.stacked = self.replicas > 1
        self.tokens = tokens
        example = self.cast(example).to(self.device)
        self._example = self._blank(example), None if targets is None else self._blank(targets)
        self.nursery = Nursery(build, methods, self.seeds, example=example, dtype=dtype, tokens=tokens)
        self.reference_optimizer = reference_optimizer or optimizer
        self.states = [
            MethodState(Generators([rng.derive(s, "method", i, m.name, device=self.device) for s in self.seeds]))
            for i, m in zip(_places(self.methods), self.methods, strict=True)
        ]
        #: Which parts of the network are clones of which, for its probes; None if it was not cloned.
        self.profile = None if clones is None else clones[1]
        modules = self._first_networks(init_index) if clones is None else self._moved(clones[0])
        found = find_head(modules[0], outputs, example, named=head(modules[0]))
        self.network = Network(
            modules[0].train(),
            head=found,
            layers=tuple(layers(modules[0]) or activation_layers(modules[0])),
            stacked=self.stacked,
            generator=self._layer_stream("layers") if clones is None else self._layer_stream("layers", "clone"),
            stochastic=is_random(modules[0], example),
        )
        self._hold_tensors(modules)
        self.optimizer = self._new_optimizer(optimizer, rates or [optimizer.lr])
        #: Tensors of replicas at their last probes, if a metric asks for them.
        self.previous = probing.LastProbes()
        self.boundary = Boundary(self)
        self.view = self._new_view()
        self.engine = Eager(self.leaves, self.optimizer, stacked=self.stacked)
        self.hooks = Hooks(())
        if not waiting:
            self.turn_on()

    # -- construction

    def _hold_tensors(self, modules: Sequence[nn.Module]) -> None:
        """Set the leaves, which are trained, and the buffers; with the replica axis if there are several replicas."""
        self._buffers: Tensors
        if self.stacked:
            stacked, self._buffers = stack_module_state(list(modules))
            self.leaves = {
                name: nn.Parameter(value.detach(), requires_grad=value.requires_grad) for name, value in stacked.items()
            }
        else:
            self.leaves = dict(modules[0].named_parameters())
            self._buffers = dict(modules[0].named_buffers())
        self._views = {name: self._stack(leaf.detach()) for name, leaf in self.leaves.items()}

    def _first_networks(self, init_index: int) -> list[nn.Module]:
        """Return a new network for each replica."""
        return [self.nursery.build(rng.derive(seed, "init", init_index)) for seed in self.seeds]

    def _moved(self, modules: Sequence[nn.Module]) -> list[nn.Module]:
        """Return networks on the device of the stack, in its type."""
        return [module.to(device=self.device, dtype=self.dtype) for module in modules]

    def _new_optimizer(self, rule: Optimizer, rates: Sequence[float]) -> StackOptimizer:
        """Return the optimizer of all replicas. Equal rates become one number, as the fused optimizer needs it."""
        head = [name for name in self.leaves if name.rpartition(".")[0] == self.network.head]
        return StackOptimizer(
            rule,
            self.leaves,
            stacked=self.stacked,
            rates=rates[0] if len(set(rates)) == 1 else torch.tensor(rates, dtype=torch.float64, device=self.device),
            hidden=hidden_matrices(self.network.module, head),
        )

    def _new_view(self) -> View:
        """Return the view of the stack that is given to methods."""
        return View(
            self.network,
            parameters=self._views,
            buffers={name: self._stack(buffer) for name, buffer in self._buffers.items()},
            initial={name: view.clone() for name, view in self._views.items()},
            optimizer=self.optimizer,
            host=self.boundary,
        )

    def _layer_stream(self, *names: str) -> Generator:
        return rng.derive(self.seeds[0], *names, device=self.device)

    def turn_on(self) -> None:
        """Let the methods act from now on.

        Raises:
            UnsupportedError: If a method cannot serve the network.
        """
        every = zip(self.methods, self.states, labels_of(self.methods), strict=True)
        on = [(Acting(method, state), label) for method, state, label in every if method.active]
        self.hooks = Hooks([each for each, _ in on], self.nursery.built_in, [label for _, label in on])
        if self.hooks.in_steps:
            self.network.watch()
        with torch.no_grad(), self.view.showing(*self._example):
            self.hooks.run("begin", self.view)

    def _blank(self, example: Tensor) -> Tensor:
        """Return zeros ``(R, N, ...)``. The values of the example, from one replica's stream, must not reach others."""
        return example.new_zeros((), device=self.device).expand(self.replicas, *example.shape)

    def _stack(self, tensor: Tensor) -> Tensor:
        return tensor if self.stacked else tensor.unsqueeze(0)

    def cast(self, inputs: Tensor) -> Tensor:
        """Return inputs in the type of the run. Tokens stay as they are."""
        return inputs if self.tokens else inputs.to(self.dtype)

    # -- training

    def begin_task(
        self, index: int, tasks: Sequence[Task], *, first: bool, reset_optimizer: bool, zero_head: bool
    ) -> None:
        """Cross a task boundary: clear the optimizer, call the hooks ``on_task_start``, zero the head.

        Args:
            index: Index of the task that begins.
            tasks: The task of each replica.
            first: Whether it is the first of the run. Then neither optimizer nor methods are touched.
            reset_optimizer: Whether the protocol clears the optimizer's state at boundaries.
            zero_head: Whether the protocol zeroes weights and bias of the head, at the first task as well.
        """
        self.turn_to(index, tasks)
        if not first:
            if reset_optimizer:
                self.optimizer.caller = None  # the protocol clears it, and no method
                self.optimizer.clear()
            for acting in self.hooks.having("on_task_start"):
                with torch.no_grad(), self.boundary.crossing(acting.method):
                    self.hooks.call(acting, "on_task_start", self.view)
        if zero_head:
            for name in self.view.head:
                self._views[name].zero_()

    def turn_to(self, index: int, tasks: Sequence[Task]) -> None:
        """Make task ``index`` the current one, without crossing a boundary; ``tasks`` has that of each replica."""
        self.boundary.task_index, self.boundary.tasks = index, tuple(tasks)
        classes = [task.classes for task in tasks if task.classes is not None]
        self.view.turn_to(tasks[0], torch.stack(classes) if classes else None)

    def step(
        self,
        batches: Sequence[tuple[Tensor, Tensor]],
        *,
        metrics: Sequence[TrainingMetric] = (),
        observe: Callable[[Tensor], Tensor | None] | None = None,
    ) -> Taken:
        """Train every replica on its batch: inputs ``(N, ...)`` and targets ``(N, ...)`` for each.

        Args:
            batches: The batch of each replica.
            metrics: What to measure of the step.
            observe: Called with the outputs ``(R, N, ...)``; may return other targets to train on.

        Returns:
            Loss ``(R,)`` without penalties and mean score ``(R,)`` before the update, and the values of the metrics.
        """
        inputs, targets = stacked_batch(batches)
        batch = self.cast(inputs), targets
        return take_step(self.view, self.hooks, self.engine, batch, metrics=metrics, observe=observe)

    # -- from outside

    def evaluate(self, index: int, task: Task) -> dict[str, float]:
        """Return replica ``index``'s mean scores on the held-out data of ``task``."""
        return evaluation.evaluate(self, index, task)

    def validate(self, index: int, task: Task) -> float:
        """Return replica ``index``'s mean score on the validation data of ``task``; see `evaluation.validate`."""
        return evaluation.validate(self, index, task)

    def see_together(self, tasks: Sequence[Task]) -> list[Seen] | None:
        """Return what `probe` needs of each replica, from one pass for all; None if there cannot be one."""
        return evaluation.see_together(self, tasks)

    def probe(self, index: int, task: Task, seen: Seen | None = None) -> NetworkProbe:
        """Return replica ``index``'s probe on the probe batch of ``task``; ``seen`` is what `see_together` returned."""
        return evaluation.probe(self, index, task, seen)

    def reports(self) -> dict[str, Tensor]:
        """Return the numbers that methods report of themselves, ``(R,)`` each, by label and name."""
        with torch.no_grad():
            return dict(self.hooks.report(self.view))

    def state_dict(self) -> Tensors:
        """Return everything that changes in training, as named tensors."""
        return saving.state_dict(self)

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore a copy of what `state_dict` returned."""
        saving.load_state_dict(self, tensors)

    def state_bytes(self) -> int:
        """Return the bytes of parameters, buffers, optimizer and methods, which a recipe keeps from step to step."""
        return saving.state_bytes(self)
