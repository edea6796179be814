from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

Call = Callable[..., CompletedProcess[str]]


def test_a_table_without_its_data_does_not_keep_back_the_others(call: Call, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    where = [f"dataset.path={empty}", f"results_dir={tmp_path}", f"cache_dir={tmp_path}"]
    done = call("reproduce_table.py", "ntl-7", "ntl-8", "--scale", "smoke", *where)
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert [line.split(":")[1] for line in errors] == [" ntl-7", " ntl-8"]
    assert all(str(empty) in line for line in errors)
    assert done.stderr.splitlines()[-1] == "not made, see above: ntl-7, ntl-8"

    alone = call("reproduce_table.py", "ntl-7", "--scale", "smoke", *where)
    assert alone.returncode == 2 and "not made" not in alone.stderr


def test_max_seeds_is_refused_where_it_would_do_nothing(call: Call) -> None:
    done = call("reproduce_table.py", "ntl-7", "--max-seeds", "9")
    assert done.returncode == 2
    assert done.stderr.startswith("error: --max-seeds is for --seeds auto")
