import pandas as pd

from beyond_ce.reporting.figures import judged_samples


def test_equal_programs_are_one_and_the_most_frequent_comes_first():
    rows = [
        ("return 1 < x\n", "failed", "AssertionError"),
        ("return x\n", "passed", ""),
        ("return x\n", "passed", ""),
        ("while 1: pass\n", "timeout", "10 s"),
    ]
    samples = pd.DataFrame(rows, columns=["completion", "verdict", "reason"])
    page = judged_samples("def f(x):  # <b>\n", samples)
    places = [page.index(text) for text in ("2 x passed", "1 x failed", "1 x timeout")]
    assert places == sorted(places)
    assert page.count("return x\n") == 1
    assert "1 &lt; x" in page and "# &lt;b&gt;" in page and "<b>" not in page
    assert "failed: AssertionError" in page and "passed:" not in page
