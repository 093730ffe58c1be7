"""Commands that are started by hand, as any other batch system would."""

import subprocess


def test_the_lines_do_the_study_and_the_same_command_prints_the_table(commands, serial, tmp_path):
    study = commands()
    code, out, err = study.run("--executor=script", "--jobs=2")
    assert code == 0, err
    assert "When these workers have done the runs, the same command prints the table." in err
    lines = out.splitlines()
    assert len(lines) == 2
    assert study.records() == {}
    machine = {"cwd": tmp_path, "env": study.environment, "stdin": subprocess.DEVNULL}
    started = [subprocess.Popen(["/bin/sh", "-c", line], **machine) for line in lines]
    assert [process.wait(300) for process in started] == [0, 0]
    assert study.records() == serial
    code, out, err = study.run("--executor=script", "--jobs=2")
    assert code == 0, err
    assert "sleeps" in out
    assert not (study.results / ".partial").exists()


def test_the_lines_go_to_a_file_that_can_be_run(commands, tmp_path):
    study = commands()
    code, out, err = study.run(f"--executor=script:{tmp_path / 'work.sh'}", methods=["none"])
    assert code == 0, err
    assert out == ""
    subprocess.run(["/bin/sh", "-c", str(tmp_path / "work.sh")], check=True, timeout=300)
    assert len(study.records()) == 4
    code, _, err = study.run(f"--executor=script:{tmp_path / 'nowhere' / 'work.sh'}")
    assert code == 1
    assert err.splitlines()[-1].endswith("work.sh cannot be written: No such file or directory")
