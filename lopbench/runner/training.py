"""The networks of a run in training: the learner, the base beside its clone, what they are fed, and how they step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager

from torch import Tensor

from lopbench.learner.learner import StackLearner
from lopbench.learner.probing import Seen
from lopbench.learner.saving import state_bytes
from lopbench.results.seed_scores import BASE
from lopbench.runner.checkpoint import part
from lopbench.runner.feed import Feed
from lopbench.runner.garbage import ENOUGH, collect
from lopbench.runner.programs import Programs
from lopbench.runner.report import Reporter
from lopbench.runner.schedule import Place
from lopbench.runner.scored import ScoredLearner
from lopbench.runner.setting import Setting


class Training:
    """All that is trained at one time: a learner, and, once it was cloned, the base that goes on beside the clone.

    Methods never act on the base; it only keeps layers that a method added when the network was built. If the base
    diverges it is measured no more, and its clone goes on.

    Args:
        setting: What is run.
        place: Where the learner is born.
        reporter: Is told of compiling.
        log: Takes lines for the log.
    """

    def __init__(self, setting: Setting, place: Place, *, reporter: Reporter, log: Callable[[str], None]) -> None:
        self.setting = setting
        self.feed = Feed(setting.streams, [spec.seed for spec in setting.specs])
        self.programs = Programs(setting, reporter)
        self._log = log
        self._garbage = 0  # bytes of learners that are over
        self.learner = self._scored(setting.new_learner(place))
        self.base: ScoredLearner | None = None

    def _scored(self, learner: StackLearner, prefix: str = "") -> ScoredLearner:
        setting = self.setting
        return ScoredLearner(learner, metrics=setting.metrics, score=setting.scenario.score, prefix=prefix)

    @property
    def all(self) -> tuple[ScoredLearner, ...]:
        """All that is trained, in the order in which it takes its steps."""
        return (self.learner,) if self.base is None else (self.base, self.learner)

    # -- from task to task

    def begin(self, place: Place, *, born: bool) -> None:
        """Come to a task: learners are born, cloned, cross its boundary, and the methods turn on if it is their turn.

        Args:
            place: The task.
            born: Whether the learner was made for it already.
        """
        if place.new and not born:
            acted = self._acts
            self._garbage += state_bytes(self.learner.learner)
            self.learner = self._scored(self.setting.new_learner(place))
            if self._acts != acted:
                self.programs.forget()  # it is one of other methods
            if self._garbage >= ENOUGH:
                collect()
                self._garbage = 0
        if place.cloning:
            self.clone(place)
            self._log(f"cloned by {self.setting.spec.cloner and self.setting.spec.cloner.label()}")
        scenario = self.setting.scenario
        self.follow(place, 0)
        self.feed.turn_to(place.task)
        for each in self.all:
            each.learner.begin_task(
                place.task,
                self.feed.tasks,
                first=place.new,
                reset_optimizer=scenario.optimizer_policy == "reset",
                zero_head=scenario.head_policy == "zero",
            )
            each.start_counting(place.steps, scored=place.scored)
        if self.setting.schedule.turns_on(place, 0):
            self.turn_on()

    @property
    def _acts(self) -> bool:
        """Whether methods are on."""
        return bool(self.learner.learner.hooks.acting)

    def clone(self, place: Place) -> None:
        """Put a clone in the learner's place; the learner goes on beside it."""
        self.base = self._scored(self.learner.learner, BASE)
        self.learner = self._scored(self.setting.clone_of(self.learner.learner, place))

    def turn_on(self) -> None:
        """Let the methods act from now on."""
        self.learner.learner.turn_on()
        self.programs.forget()
        self._log(f"{self.setting.spec.method_label}: on")

    def turn_to(self, place: Place) -> None:
        """Take up a task as if it had begun, without crossing its boundary."""
        self.feed.turn_to(place.task)
        for each in self.all:
            each.learner.turn_to(place.task, self.feed.tasks)
            each.start_counting(place.steps, scored=place.scored)

    def follow(self, place: Place, step: int) -> None:
        """Take the learning rate that the protocol has after ``step`` steps of a task."""
        for each in self.all:
            each.learner.optimizer.follow(place.factor(step))

    # -- steps

    def prepare(self) -> None:
        """Make the program of the steps to come, where they are to be one and it is not there."""
        told = self.programs.seek(self.learner, self.feed)
        if told is not None:
            self._log(told)

    def advance(self, count: int) -> None:
        """Take at least one and up to ``count`` steps."""
        count = self.feed.act(self.learner.actor, count)
        if self.programs.advance(self.learner, self.feed, count):
            return
        batches = self.feed.step()
        if self.base is not None:
            self.base.step(batches)
        self.learner.step(batches, observe=self.feed.observe if self.feed.observes else None)

    # -- early stopping

    def validate(self, replica: int) -> None:
        """Validate the networks of a replica as they are now, and remember those that are the best of the task."""
        for each in self.all:
            each.validate(replica, self.feed.tasks[replica])

    def keep_best(self) -> None:
        """Go on with the weights that were best in the validations of the task; with these where there was none."""
        for each in self.all:
            each.best.restore()

    # -- measuring

    def scores(self, replica: int) -> Iterator[tuple[str, float]]:
        """Yield names and values of a replica's scores on the task that is over."""
        task = self.feed.tasks[replica]
        yield "chance", task.chance
        for each in reversed(self.all):
            yield from each.task_scores(replica, task)

    def see_together(self) -> list[list[Seen] | None]:
        """Return, for each of all that is trained, what one pass shows of its replicas; see `diagnostics`."""
        return [each.see_together(self.feed.tasks) for each in self.all]

    def diagnostics(self, replica: int, seen: Sequence[list[Seen] | None]) -> Iterator[tuple[str, str, float]]:
        """Yield label, layer and value of each diagnostic of a replica as it is now, given what is `seen` together."""
        task = self.feed.tasks[replica]
        for each, shown in zip(reversed(self.all), reversed(seen), strict=True):
            yield from each.diagnostics(replica, task, None if shown is None else shown[replica])

    # -- checkpoints

    def state_dict(self) -> dict[str, Tensor]:
        """Return everything that changes in training, as named tensors."""
        found = {f"feed/{name}": value for name, value in self.feed.state_dict().items()}
        for section, each in zip(("learner", "base"), reversed(self.all), strict=False):
            found.update({f"{section}/{name}": value for name, value in each.state_dict().items()})
        return found

    def load_state_dict(
        self, tensors: Mapping[str, Tensor], place: Place, step: int, fitting: AbstractContextManager[None]
    ) -> None:
        """Become what was in training after ``step`` steps of a task.

        Args:
            tensors: What `state_dict` returned then.
            place: The task.
            step: Steps taken of it.
            fitting: Surrounds what fails where the tensors are of other code than this.
        """
        if place.cloned:
            self.clone(place)  # of other values, which are replaced
        if self.setting.schedule.is_on(place, step):
            self.learner.learner.turn_on()
        self.turn_to(place)
        self.follow(place, step)
        with fitting:
            self.feed.load_state_dict(part(tensors, "feed"))
            for section, each in zip(("learner", "base"), reversed(self.all), strict=False):
                each.load_state_dict(part(tensors, section))
