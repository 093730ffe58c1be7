"""The learner: a stack of ``R`` replicas, each an independent network with its own seed, trained side by side.

Every tensor that a method or metric sees leads with the replica axis. With one replica the module is called as it is
and the stack's tensors are views of its parameters, so that nothing is paid for the axis. With several, one program
advances all of them through ``torch.func.functional_call`` under ``torch.vmap``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Generator, Tensor, nn
from torch.func import functional_call, stack_module_state

from lopbench.core import rng
from lopbench.core.errors import UnsupportedError
from lopbench.core.interfaces import Optimizer, Perturbation, State, Task
from lopbench.core.probe import NetworkProbe
from lopbench.core.profile import Profile
from lopbench.learner import probing
from lopbench.learner.discovery import discover
from lopbench.learner.fresh import FreshPool
from lopbench.learner.groups import UnitGroup
from lopbench.learner.head import find_head
from lopbench.learner.optimizers import StackOptimizer, hidden_matrices
from lopbench.learner.units import StackUnits

Build = Callable[[Generator], nn.Module]


class MethodState:
    """A method's own tensors and private generators; all of it is checkpointed with the run."""

    def __init__(self, generators: list[Generator]) -> None:
        self.generators = generators
        self.tensors: dict[str, Tensor] = {}

    def normal(self, like: Tensor) -> Tensor:
        """Return standard normal noise of the shape ``(R, ...)`` of ``like``."""
        return rng.normal(like, self.generators)

    def uniform(self, like: Tensor) -> Tensor:
        """Return numbers uniform in [0, 1) of the shape ``(R, ...)`` of ``like``."""
        numbers = torch.empty_like(like)
        for row, generator in zip(numbers, self.generators, strict=True):
            row.uniform_(generator=generator)
        return numbers

    def __getitem__(self, key: str) -> Tensor:
        return self.tensors[key]

    def __setitem__(self, key: str, value: Tensor) -> None:
        self.tensors[key] = value

    def __contains__(self, key: object) -> bool:
        return key in self.tensors


def activation_layers(module: nn.Module) -> list[str]:
    """Return the names of all activation functions of the network, in order of definition."""
    return [name for name, child in module.named_modules() if is_activation(child)]


def stacked_method(methods: Sequence[Perturbation]) -> Perturbation:
    """Return one method that serves every replica with the hyperparameters of its own.

    Args:
        methods: The method of each replica, all of one class, differing in fields that it declares as ``swept``.
    """
    first = methods[0]
    made = copy.copy(first)  # not `replace`, whose checks are for numbers
    for field in first.swept:
        values = [getattr(method, field) for method in methods]
        if any(value != values[0] for value in values):
            object.__setattr__(made, field, torch.tensor(values, dtype=torch.float64))
    return made


def is_active(method: Perturbation) -> bool:
    """Return whether the method acts: where its replicas differ they all do, or they would not run together."""
    return any(isinstance(getattr(method, field), Tensor) for field in method.swept) or method.active


def is_activation(module: nn.Module) -> bool:
    """Return whether ``module`` is an elementwise activation function, torch's own or one of timm's."""
    return "activation" in type(module).__module__ and not isinstance(module, nn.MultiheadAttention | nn.Softmax)


class StackLearner:
    """A stack of networks in training, under an optimizer and any number of methods.

    Args:
        build: Makes one network from a generator.
        seeds: Seed of each replica.
        methods: The methods, in the order in which they act; `stacked_method` makes one of those of all replicas.
        optimizer: The optimizer of the run.
        rates: Learning rate of each replica where they differ, which only a `Program` can train.
        reference_optimizer: The optimizer of the protocol's fresh reference, for `restart`.
        input_shape: Shape of one sample.
        outputs: Number of outputs of the head.
        layers: Returns the names of the layers to probe; None means every activation function.
        device: Where the stack lives.
        dtype: Type of parameters and inputs.
        init_index: Index of the named stream of the first initialisation: networks that start at task ``t`` start
            from the stream ``("init", t)``, whoever asks for them.
        traced: Whether a `Program` takes the steps; then `step` must not be called.
        waiting: Whether the methods wait for `turn_on`; what they make of the network they make at once.
        clones: Cloned networks to start from, one for each replica, and what is a clone of what in them. ``build`` is
            then of networks as wide, and asked only where something is drawn anew.

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
        input_shape: Sequence[int],
        outputs: int,
        layers: Callable[[nn.Module], Sequence[str] | None] = lambda module: None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        init_index: int = 0,
        traced: bool = False,
        waiting: bool = False,
        clones: tuple[Sequence[nn.Module], Profile] | None = None,
    ) -> None:
        self.seeds = tuple(seeds)
        self.replicas = len(self.seeds)
        self.methods = tuple(methods)
        self.device = torch.device(device)
        self.dtype = dtype
        self.stacked = self.replicas > 1
        self.traced = traced
        self.rates = (optimizer.lr,) * self.replicas if rates is None else tuple(rates)
        self._build_base = build
        self._input_shape = tuple(input_shape)
        self._reference_optimizer = reference_optimizer or optimizer
        self._task_index = init_index
        self.states = [
            MethodState([rng.derive(s, "method", i, m.name, device=self.device) for s in self.seeds])
            for i, m in enumerate(self.methods)
        ]

        #: What is a clone of what in the network, for its probes; None where it was not cloned.
        self.profile = None if clones is None else clones[1]
        if clones is None:
            modules = [self._build(rng.derive(seed, "init", init_index)) for seed in self.seeds]
        else:
            modules = [module.to(device=self.device, dtype=self.dtype) for module in clones[0]]
        #: With several replicas a template: its own values are replaced by each replica's when it is called.
        self.module = modules[0]
        self._buffers: dict[str, Tensor]
        if self.stacked:
            stacked, self._buffers = stack_module_state(modules)
            self.leaves = {
                name: nn.Parameter(value.detach(), requires_grad=value.requires_grad) for name, value in stacked.items()
            }
        else:
            self.leaves = dict(self.module.named_parameters())
            self._buffers = dict(self.module.named_buffers())
        self._views = {name: self._stack(leaf.detach()) for name, leaf in self.leaves.items()}
        self._initial = {name: view.clone() for name, view in self._views.items()}
        head = find_head(self.module, outputs, self._example)
        self.head = tuple(name for name in self._views if name.rpartition(".")[0] == head)
        hidden = hidden_matrices(self.module, self.head)
        self.optimizer = StackOptimizer(optimizer, self.leaves, stacked=self.stacked, hidden=hidden)
        self.layers = tuple(layers(self.module) or activation_layers(self.module))

        dropouts = [m for m in self.module.modules() if isinstance(m, nn.modules.dropout._DropoutNd)]
        self._stochastic = any(m.p > 0 for m in dropouts) or any(
            getattr(m, "drop_prob", 0.0) for m in self.module.modules()
        )
        if self._stochastic and self.stacked:
            raise UnsupportedError("dropout draws from one global stream: its seeds run one after another")
        #: What dropout inside the network draws from.
        stream = ("layers",) if clones is None else ("layers", "clone")
        self._layer_generator = rng.derive(self.seeds[0], *stream, device=self.device)

        #: What replicas were at their last probes, where a metric asks for it.
        self._previous = probing.Memory()
        self._groups: tuple[UnitGroup, ...] | None = None
        self._units: tuple[StackUnits, ...] = ()
        self._pool: FreshPool | None = None
        self._captured: dict[str, Tensor] = {}
        self.active: tuple[tuple[Perturbation, MethodState], ...] = ()
        self._sort_hooks()
        if not waiting:
            self.turn_on()
        self.module.train()

    # -- construction

    def turn_on(self) -> None:
        """Let the methods act from now on.

        Raises:
            UnsupportedError: If a method cannot serve the network.
        """
        pairs = zip(self.methods, self.states, strict=True)
        self.active = tuple((m, s) for m, s in pairs if is_active(m))
        self._sort_hooks()
        if any(m.uses_activations for m, _ in self.active):
            self._watch({group.read for group in self.groups})
        with torch.no_grad():
            for method, state in self.active:
                method.begin(self, state)

    def _sort_hooks(self) -> None:
        self._boundary = [(m, s) for m, s in self.active if m.uses_boundaries]
        self._penalties = [(m, s) for m, s in self.active if _overrides(m, "penalty")]
        self._backward = [(m, s) for m, s in self.active if _overrides(m, "after_backward")]
        self._after = [(m, s) for m, s in self.active if _overrides(m, "after_step")]
        self._evaluated = [(m, s) for m, s in self.active if _overrides(m, "evaluated")]

    def _build(self, generator: Generator) -> nn.Module:
        """Return a new network as the methods configure it; the base network draws first and so is the same in all."""
        module = self._build_base(generator).to(dtype=self.dtype)
        example = torch.zeros(2, *self._input_shape, dtype=self.dtype)
        for method in self.methods:
            module = method.configure(module, example=example, generator=generator)
        return module.to(device=self.device, dtype=self.dtype)

    def _stack(self, tensor: Tensor) -> Tensor:
        return tensor if self.stacked else tensor.unsqueeze(0)

    @property
    def _example(self) -> Tensor:
        return torch.zeros(2, *self._input_shape, dtype=self.dtype, device=self.device)

    @property
    def groups(self) -> tuple[UnitGroup, ...]:
        """Where the units are that a method may reset.

        Raises:
            UnsupportedError: If the network has none.
        """
        if self._groups is None:
            found = discover(self.module, self._example)
            if not found.groups:
                raise UnsupportedError(found.refusal)
            self._groups = found.groups
        return self._groups

    def _watch(self, names: set[str]) -> None:
        """Keep the input of each module in ``names`` at every training forward pass."""

        def hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
            def keep(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
                if module.training:
                    self._captured[name] = inputs[0]

            return keep

        for name, module in self.module.named_modules():
            if name in names:
                module.register_forward_pre_hook(hook(name))

    # -- what methods see

    @property
    def parameters(self) -> Mapping[str, Tensor]:
        """Views ``(R, ...)`` of the trained parameters, outside autograd."""
        return self._views

    @property
    def differentiable(self) -> Mapping[str, Tensor]:
        """The trained parameters ``(R, ...)`` inside autograd."""
        return {name: self._stack(leaf) for name, leaf in self.leaves.items()}

    @property
    def gradients(self) -> Mapping[str, Tensor]:
        """Views ``(R, ...)`` of the gradients of this step."""
        return {n: self._stack(leaf.grad) for n, leaf in self.leaves.items() if leaf.grad is not None}

    @property
    def initial(self) -> Mapping[str, Tensor]:
        """Copies ``(R, ...)`` of the parameters as built, before the first step."""
        return self._initial

    @property
    def buffers(self) -> Mapping[str, Tensor]:
        """Views ``(R, ...)`` of the buffers."""
        return {name: self._stack(buffer) for name, buffer in self._buffers.items()}

    @property
    def units(self) -> Sequence[StackUnits]:
        """The groups of units that a method may reset, in forward order.

        Raises:
            UnsupportedError: If the network has none.
        """
        if not self._units:
            buffers = self.buffers
            self._units = tuple(
                StackUnits(group, self._views, buffers, self.optimizer, self.pool, self._reader(group.read))
                for group in self.groups
            )
        return self._units

    @property
    def pool(self) -> FreshPool:
        """Where the incoming weights of units that are reset come from."""
        if self._pool is None:
            self._pool = FreshPool(
                build=lambda generator: dict(self._build(generator).named_parameters()),
                generator_for=lambda replica, k: rng.derive(self.seeds[replica], "reset", k),
                groups=self.groups,
                replicas=self.replicas,
            )
        return self._pool

    def _reader(self, name: str) -> Callable[[], Tensor]:
        return lambda: self._stack(self._captured[name].detach())

    def fresh(self, state: State) -> Mapping[str, Tensor]:
        """Return the parameters ``(R, ...)`` of newly initialised networks, drawn from the method's own stream."""
        networks = []
        for generator in state.generators:
            draw = int(torch.randint(2**62, (), generator=generator, device=generator.device).item())
            networks.append(dict(self._build(torch.Generator().manual_seed(draw)).named_parameters()))
        return {name: torch.stack([network[name].detach() for network in networks]) for name in self._views}

    @torch.no_grad()
    def restart(self) -> None:
        """Become the protocol's fresh reference at this task: new network, new optimizer, its learning rate."""
        for replica, seed in enumerate(self.seeds):
            module = self._build(rng.derive(seed, "init", self._task_index))
            for name, parameter in module.named_parameters():
                self._views[name][replica].copy_(parameter)
            for name, buffer in module.named_buffers():
                self.buffers[name][replica].copy_(buffer)
        self._layer_generator = rng.derive(self.seeds[0], "layers", device=self.device)
        self.optimizer.restart(self._reference_optimizer)

    # -- training

    def begin_task(self, index: int, *, first: bool, reset_optimizer: bool, zero_head: bool) -> None:
        """Cross a task boundary: what the protocol does at it, then the methods that declared boundaries.

        Args:
            index: Index of the task that begins.
            first: Whether it is the first of the run; methods are told of the later ones only.
            reset_optimizer: Whether the protocol clears the optimizer's state.
            zero_head: Whether the protocol zeroes weights and bias of the head.
        """
        self._task_index = index
        if not first:
            if reset_optimizer:
                self.optimizer.clear()
            for method, state in self._boundary:
                method.on_task_start(self, state)
        if zero_head:
            for name in self.head:
                self._views[name].zero_()

    def step(self, batches: Sequence[tuple[Tensor, Tensor]], tasks: Sequence[Task]) -> tuple[Tensor, Tensor]:
        """Train every replica on its batch.

        Args:
            batches: For each replica, inputs ``(N, ...)`` and targets ``(N,)``.
            tasks: For each replica, the task that gives loss and score.

        Returns:
            Loss ``(R,)`` without penalties, and mean score ``(R,)`` of the batch before the update; both detached.
        """
        whole = self._forward([inputs for inputs, _ in batches])
        outputs = [probing.counted(out, task) for task, out in zip(tasks, whole, strict=True)]
        losses = [task.loss(out, y) for task, out, (_, y) in zip(tasks, outputs, batches, strict=True)]
        with torch.no_grad():
            scores = [
                task.score(out, y).mean(dtype=torch.float64)
                for task, out, (_, y) in zip(tasks, outputs, batches, strict=True)
            ]
        loss = losses[0] if len(losses) == 1 else torch.stack(losses).sum()
        for method, state in self._penalties:
            loss = loss + method.penalty(self, state).sum()
        loss.backward()
        with torch.no_grad():
            for method, state in self._backward:
                method.after_backward(self, state)
            self.optimizer.step()
            for method, state in self._after:
                method.after_step(self, state)
        self.optimizer.zero_grad()
        return torch.stack([value.detach() for value in losses]), torch.stack(scores)

    def _forward(self, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        if not self.stacked:
            with self._layer_randomness():
                return [self.module(inputs[0].to(self.dtype))]

        outputs, self._captured = torch.vmap(self.call)(
            dict(self.leaves), self._buffers, torch.stack(list(inputs)).to(self.dtype)
        )
        return outputs.unbind(0)

    def call(
        self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return what one replica makes of ``x``, and what the watched modules read on the way; for transforms."""
        self._captured = {}
        return functional_call(self.module, (parameters, buffers), (x,)), self._captured

    def untraceable(self) -> str | None:
        """Return why a `Program` cannot take the steps, None if it can."""
        if self._stochastic:
            return "the network draws random numbers"
        if self._buffers:
            return "the network has buffers"
        if not all(leaf.requires_grad for leaf in self.leaves.values()):
            return "the network has parameters that are not trained"
        for method in filter(is_active, self.methods):  # those that still wait as well
            if not method.traceable:
                return f"method {method.name} cannot be traced"
            if _overrides(method, "penalty"):
                return f"method {method.name} adds a penalty to the loss"
        return None

    @contextmanager
    def _layer_randomness(self) -> Iterator[None]:
        with rng.isolated(self._layer_generator) if self._stochastic else nullcontext():
            yield

    # -- evaluation

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Put the network in evaluation mode for the duration."""
        self.module.eval()
        try:
            yield
        finally:
            self.module.train()

    def _evaluated_parameters(self) -> dict[str, Tensor]:
        parameters = dict(self._views)
        with torch.no_grad():
            for method, state in self._evaluated:
                parameters.update(method.evaluated(self, state))
        return parameters

    def replica(self, index: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the evaluated parameters and the buffers of one replica, as a plain module holds them."""
        parameters = {name: value[index] for name, value in self._evaluated_parameters().items()}
        return parameters, {name: value[index] for name, value in self.buffers.items()}

    @torch.no_grad()
    def evaluate(self, index: int, task: Task) -> dict[str, float]:
        """Return replica ``index``'s mean scores on the held-out data of ``task``."""
        state = self.replica(index)
        sums: dict[str, Tensor] = {}
        count = 0
        with self.evaluating():
            for inputs, targets in task.held_out():
                outputs = functional_call(self.module, state, (inputs.to(self.dtype),))
                score = task.score(probing.counted(outputs, task), targets)
                scores = {"heldout_score": score, **task.held_out_scores(outputs, targets)}
                for name, score in scores.items():
                    total = score.sum(dtype=torch.float64)
                    sums[name] = sums[name] + total if name in sums else total
                count += len(inputs)
        return {name: total.item() / count for name, total in sums.items()}

    def probe(self, index: int, task: Task) -> NetworkProbe:
        """Return replica ``index``'s probe: activations and gradients on the task's probe batch, in evaluation mode.

        Weights, buffers, ``.grad``, mode and random state stay as they were.
        """
        parameters, buffers = self.replica(index)
        subject = probing.Subject(
            module=self.module,
            parameters=parameters,
            buffers=buffers,
            layers=self.layers,
            profile=self.profile,
        )
        return probing.take(
            subject,
            task,
            initial={name: value[index] for name, value in self._initial.items()},
            head=self.head,
            lr=self.rates[index],
            recall=lambda: self._previous.swap(index, {**buffers, **parameters}),
        )

    # -- checkpoints

    def state_dict(self) -> dict[str, Tensor]:
        """Return everything that changes in training, as named tensors."""
        tensors = {f"parameter/{name}": leaf.detach() for name, leaf in self.leaves.items()}
        tensors.update({f"buffer/{name}": value for name, value in self._buffers.items()})
        tensors.update({f"optimizer/{name}": value for name, value in self.optimizer.state_dict().items()})
        if self.profile is not None:  # where a clone started cannot be made again from the seed
            tensors.update({f"initial/{name}": value for name, value in self._initial.items()})
        tensors["generator/layers"] = self._layer_generator.get_state()
        reference = self.optimizer.rule is self._reference_optimizer
        tensors["restarted"] = torch.tensor(reference)
        for index, state in enumerate(self.states):
            tensors.update({f"method/{index}/{key}": value for key, value in state.tensors.items()})
            for replica, generator in enumerate(state.generators):
                tensors[f"generator/{index}/{replica}"] = generator.get_state()
        tensors.update({f"previous/{key}": value for key, value in self._previous.state_dict().items()})
        if self._pool is not None:
            tensors.update({f"pool/{key}": value for key, value in self._pool.state_dict().items()})
        return tensors

    @torch.no_grad()
    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore a copy of what `state_dict` returned."""
        part = sections(tensors)
        for name, leaf in self.leaves.items():
            leaf.copy_(part["parameter"][name])
        for name, buffer in self._buffers.items():
            buffer.copy_(part["buffer"][name])
        for name, value in part.get("initial", {}).items():
            self._initial[name].copy_(value)
        if bool(tensors["restarted"]):
            self.optimizer.restart(self._reference_optimizer)
        self.optimizer.load_state_dict({n: value.to(self.device) for n, value in part.get("optimizer", {}).items()})
        generators = part["generator"]
        self._layer_generator.set_state(generators["layers"].cpu())
        for index, state in enumerate(self.states):
            prefix = f"{index}/"
            state.tensors = {
                # What a method keeps on the host, to read it without waiting for the device, stays there.
                key.removeprefix(prefix): value.to(
                    "cpu" if key.startswith(f"{prefix}host_") else self.device, copy=True
                )
                for key, value in part.get("method", {}).items()
                if key.startswith(prefix)
            }
            for replica, generator in enumerate(state.generators):
                generator.set_state(generators[f"{index}/{replica}"].cpu())
        self._previous.load_state_dict(part.get("previous", {}), self.device)
        if "pool" in part:
            self.pool.load_state_dict(part["pool"])

    def state_bytes(self) -> int:
        """Return the bytes of parameters, buffers, optimizer and methods: what the recipe must hold in memory."""
        tensors = [t for name, t in self.state_dict().items() if name.split("/")[0] in _HELD]
        return sum(tensor.nbytes for tensor in tensors)


_HELD = frozenset({"parameter", "buffer", "optimizer", "method"})


def sections(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Return tensors named ``section/name`` by section and name."""
    found: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        section, _, rest = key.partition("/")
        found.setdefault(section, {})[rest] = value
    return found


def _overrides(method: Perturbation, hook: str) -> bool:
    return getattr(type(method), hook) is not getattr(Perturbation, hook)
