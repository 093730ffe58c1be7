"""Work in as many threads as the machine has cores, its results in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from os import cpu_count
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


def in_parallel(function: Callable[[Job], Result], jobs: Iterable[Job]) -> Iterator[Result]:
    """Yield ``function(job)`` for each job, in order, computed in as many threads as the machine has cores.

    Threads, as forking beside torch's own threads can deadlock and spawned processes re-run a user's unguarded script.
    A few results at most wait in memory. After an error, jobs not yet begun are dropped.
    """
    workers = cpu_count() or 1
    pool = ThreadPoolExecutor(workers, thread_name_prefix="lopbench-data")
    waiting: deque[Future[Result]] = deque()
    try:
        for job in jobs:
            waiting.append(pool.submit(function, job))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
