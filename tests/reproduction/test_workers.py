import os
import signal
import subprocess
import sys
import time

import pytest

from beyond_ce.reproduction.workers import Task, error_line, run_tasks

TASKS = """
import os, signal, time

def note(folder):
    print("printed", flush=True)
    (folder / "pids").open("a").write(f"{os.getpid()}\\n")

def broken(folder):
    raise ValueError("first line\\nsecond line")

def refused(folder):
    from beyond_ce.errors import UsageError
    raise UsageError("do\\nthat")

def killed(folder):
    os.kill(os.getpid(), signal.SIGKILL)

def unlucky(folder):
    if not (folder / "tried").exists():
        (folder / "tried").touch()
        os.kill(os.getpid(), signal.SIGKILL)

def imported(folder):
    import sys
    (folder / "imported").write_text(str("beyond_ce.runs.experiment" in sys.modules))

def endless(folder):
    def stop(number, frame):
        (folder / "saved").touch()
        raise RuntimeError("stopped")
    signal.signal(signal.SIGTERM, stop)
    (folder / "pid").write_text(str(os.getpid()))
    (folder / "started").touch()
    time.sleep(60)
"""

START = """
import sys
from pathlib import Path
from beyond_ce.reproduction.workers import Task, run_tasks

if __name__ == "__main__":
    import stand_in
    folder = Path(sys.argv[1])
    tasks = [Task(stand_in.endless, folder, folder / "log") for _ in range(3)]
    try:
        run_tasks(tasks, 1, on_done=print)
    except KeyboardInterrupt:
        sys.exit(130)
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Functions that other processes can import."""
    (tmp_path / "stand_in.py").write_text(TASKS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delitem(sys.modules, "stand_in", raising=False)
    import stand_in

    return stand_in


def test_one_failure_costs_itself_alone(stand_in, tmp_path, capfd):
    functions = [stand_in.broken, *[stand_in.note] * 4]
    tasks = [Task(f, tmp_path, tmp_path / "logs" / str(i)) for i, f in enumerate(functions)]
    errors = {}
    run_tasks(tasks, 2, on_done=lambda task, error: errors.update({task.log.name: error}))
    assert errors == {"0": "ValueError: first line second line", **dict.fromkeys("1234")}
    assert len(set((tmp_path / "pids").read_text().split())) <= 2  # processes persist
    assert (tmp_path / "logs" / "1").read_text() == "printed\n"
    assert "Traceback" in (tmp_path / "logs" / "0").read_text()
    assert capfd.readouterr() == ("", "")


def test_a_killed_process_is_tried_once_more(stand_in, tmp_path):
    functions = [stand_in.killed, stand_in.unlucky, stand_in.note]
    tasks = [Task(f, tmp_path, tmp_path / f"{f.__name__}.log") for f in functions]
    errors = {}
    run_tasks(tasks, 1, on_done=lambda task, error: errors.update({task.log.stem: error}))
    assert errors == {"killed": "its process died twice", "unlucky": None, "note": None}


@pytest.mark.parametrize("early", [True, False])
def test_workers_find_imported_what_runs_need(stand_in, tmp_path, early):
    program = (
        "import stand_in\nfrom pathlib import Path\n"
        "from beyond_ce.reproduction.workers import Task, preload, run_tasks\n"
        f"{'preload()' if early else ''}\nfolder = Path({str(tmp_path)!r})\n"
        "run_tasks([Task(stand_in.imported, folder, folder / 'log')], 1, on_done=print)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    assert (tmp_path / "imported").read_text() == str(early)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_stop_is_passed_on(stand_in, tmp_path, number):
    (tmp_path / "start.py").write_text(START)
    parent = subprocess.Popen(
        [sys.executable, tmp_path / "start.py", tmp_path], stderr=subprocess.PIPE, text=True
    )
    wait_until((tmp_path / "started").exists)
    os.kill(parent.pid, number)
    _, errors = parent.communicate(timeout=20)  # ends when the worker has closed its end as well
    assert parent.returncode == (130 if number != signal.SIGKILL else -signal.SIGKILL)
    assert (tmp_path / "saved").exists()
    assert "Traceback" not in errors
    wait_until(lambda: not os.path.exists(f"/proc/{(tmp_path / 'pid').read_text()}"))


def wait_until(condition):
    for _ in range(300):
        if condition():
            return
        time.sleep(0.1)
    pytest.fail("it never came")


def test_errors_are_one_line():
    assert error_line(ValueError("a\n  b")) == "ValueError: a b"


def test_a_log_that_cannot_be_written_is_one_line(stand_in, tmp_path, capfd):
    (tmp_path / "file").touch()
    task = Task(stand_in.note, tmp_path, tmp_path / "file" / "log")
    errors = []
    run_tasks([task], 1, on_done=lambda task, error: errors.append(error))
    assert len(errors) == 1 and errors[0].startswith(f"cannot write {task.log}: ")
    assert capfd.readouterr() == ("", "")


def test_a_log_says_where_to_report_a_fault(stand_in, tmp_path):
    for name, function in (("ours", stand_in.broken), ("theirs", stand_in.refused)):
        run_tasks([Task(function, tmp_path, tmp_path / name)], 1, on_done=lambda task, error: None)
    ours, theirs = ((tmp_path / name).read_text() for name in ("ours", "theirs"))
    assert "Traceback" in ours
    assert ours.splitlines()[-1].startswith("error: this is a fault of beyond-ce: please report it")
    assert theirs == "error: do that\n"
