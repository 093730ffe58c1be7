"""Whatever is broken, a command ends soon, says so in a sentence, and runs nothing of it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

#: Bytes of memory that the whole process may use, torch and all that was read before among them.
MOST_BYTES = 2 * 10**9

#: Inputs of the default seed; another one gives others.
SEED = 1


@pytest.mark.slow
def test_no_input_gives_a_traceback_hangs_fills_the_memory_or_is_executed(tmp_path, pytestconfig):
    count = pytestconfig.getoption("fuzz")
    driver = Path(__file__).with_name("driver.py")
    command = [sys.executable, driver, tmp_path / "fuzz", str(SEED), "0", str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    faults = [line for line in lines if "fault" in line]
    assert not faults, f"{len(faults)} of {count}: {json.dumps(faults[:5], indent=1)}"
    assert done.returncode == 0, done.stderr[-3000:]
    assert lines[-1]["inputs"] == count
    assert lines[-1]["peak_bytes"] < MOST_BYTES
    # Some are taken, some are refused: inputs that are all of one kind would show little.
    assert {code.split()[-1] for code in lines[-1]["codes"]} >= {"0", "1", "2"}
