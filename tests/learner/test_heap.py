"""What is freed in a step is there for the next one."""

import platform
import subprocess
import sys

import pytest

#: Prints how many new pages ten turns of six blocks of 293 pages get, once the first turns have warmed up.
PAGES = """
import resource, torch
from lopbench.learner.heap import keep_freed_memory

keep_freed_memory()
for turn in range(13):
    if turn == 3:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [torch.zeros(300_000) for _ in range(6)]
    del blocks
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library keeps what is freed by its own rules")
def test_memory_that_was_freed_is_not_asked_for_again() -> None:
    done = subprocess.run([sys.executable, "-c", PAGES], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 300  # 17,580 where each turn asks anew
