import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beyond_ce.errors import UsageError
from beyond_ce.reporting.claims import Claim, Condition, Verdict, judge, ledger, load_claims
from beyond_ce.reporting.paper import PAPER_DIR
from beyond_ce.reporting.tables import Column, Job, Row, Table, load_table

CONF = PAPER_DIR.parents[1] / "conf"
CLAIMS = CONF / "claims" / "ntl.yaml"
T2 = (
    4.302652729911275 / 3**0.5
)  # half width of a 95% interval of three seeds with standard deviation 1
BETTER = {"NTL λ=0.5": 1.0, "CE": -1.0}


def claim(*conditions, kind="better", **changes):
    fields = {
        "id": "was",
        "claim": "NTL is better.",
        "source": "Paper, table 0",
        "kind": kind,
        "table": "toy",
        "conditions": list(conditions),
        **changes,
    }
    return Claim(**fields)


def made(**values):
    """Reports of the rows CE and NTL λ=0.5: metric -> (CE by seed, NTL by seed)."""
    reports: dict = {}
    for metric, pair in values.items():
        for row, by_seed in zip(("CE", "NTL λ=0.5"), pair, strict=True):
            for seed, value in enumerate(by_seed):
                report = reports.setdefault(Job(row, seed, ()), {"metrics": {}})
                report["metrics"][f"test/{metric}"] = value
    return reports


ACCURACY = Condition("test/accuracy", BETTER)
MAE = Condition("test/mae", BETTER)


@pytest.mark.parametrize(
    ("ntl", "verdict"),
    [
        ([5.0, 6.0, 7.0], Verdict.REPRODUCED),
        ([-5.0, -6.0, -7.0], Verdict.CONTRADICTED),
        ([1.0, 2.0, 3.0], Verdict.INCONCLUSIVE),
        ([5.0], Verdict.INCONCLUSIVE),
        ([], Verdict.NOT_RUN),
    ],
)
def test_the_four_verdicts(table, ntl, verdict):
    finding = judge(claim(ACCURACY), table, "cpu", made(accuracy=([0.0] * len(ntl), ntl)))
    assert finding.verdict is verdict
    effect = finding.weakest
    assert effect.ours.n == len(ntl)
    if len(ntl) == 3:
        mean = sum(ntl) / 3
        assert (effect.ours.low, effect.ours.high) == pytest.approx((mean - T2, mean + T2))
    assert effect.paper == pytest.approx(0.1)


def test_lower_is_better_where_the_table_says_so(table):
    finding = judge(claim(MAE), table, "cpu", made(mae=([9.0, 9.0, 9.0], [1.0, 2.0, 3.0])))
    assert finding.verdict is Verdict.REPRODUCED
    assert finding.weakest.ours.mean == 7
    assert finding.weakest.paper == 1  # 2.0 of CE less 1.0 of NTL


def test_rows_without_the_seed_of_another_do_not_count(table):
    finding = judge(claim(ACCURACY), table, "cpu", made(accuracy=([0.0, 0.0, 0.0], [5.0])))
    assert (finding.verdict, finding.weakest.ours.n) == (Verdict.INCONCLUSIVE, 1)


@pytest.mark.parametrize(
    ("margin", "verdict"),
    [
        (1 + T2 + 0.01, Verdict.REPRODUCED),
        (1 + T2 - 0.01, Verdict.INCONCLUSIVE),
        (0.01, Verdict.INCONCLUSIVE),
    ],
)
def test_harmless_is_less_harm_than_the_margin(table, margin, verdict):
    # Accuracy falls by 0, 1 and 2.
    reports = made(accuracy=([3.0, 3.0, 3.0], [3.0, 2.0, 1.0]))
    condition = Condition("test/accuracy", BETTER, margin=margin)
    finding = judge(claim(condition, kind="harmless"), table, "cpu", reports)
    assert finding.verdict is verdict
    assert finding.weakest.ours.mean == pytest.approx(margin - 1)
    assert finding.weakest.ours.low == pytest.approx(margin - 1 - T2)


def test_harm_beyond_the_margin_contradicts_and_a_gain_never_does(table):
    condition = Condition("test/accuracy", BETTER, margin=0.5)
    worse = made(accuracy=([9.0, 9.0, 9.0], [1.0, 2.0, 3.0]))
    assert (
        judge(claim(condition, kind="harmless"), table, "cpu", worse).verdict
        is Verdict.CONTRADICTED
    )
    better = made(accuracy=([1.0, 2.0, 3.0], [9.0, 9.0, 9.0]))
    assert (
        judge(claim(condition, kind="harmless"), table, "cpu", better).verdict is Verdict.REPRODUCED
    )


@pytest.mark.parametrize(
    ("ntl", "margin", "verdict", "interval"),
    [
        # Difference 1 ± T2, which is [-1.48, 3.48]: the farthest end counts against the claim.
        ([0.0, 1.0, 2.0], 4.0, Verdict.REPRODUCED, (4 - 1 - T2, 4.0)),
        ([0.0, 1.0, 2.0], 3.0, Verdict.INCONCLUSIVE, (3 - 1 - T2, 3.0)),
        ([0.0, -1.0, -2.0], 3.0, Verdict.INCONCLUSIVE, (3 - 1 - T2, 3.0)),
        # [3.52, 8.48] lies outside of a margin of 3, on the better side or on the worse.
        ([5.0, 6.0, 7.0], 3.0, Verdict.CONTRADICTED, (3 - 6 - T2, 3 - 6 + T2)),
        ([-5.0, -6.0, -7.0], 3.0, Verdict.CONTRADICTED, (3 - 6 - T2, 3 - 6 + T2)),
        ([1.0], 4.0, Verdict.INCONCLUSIVE, None),
    ],
)
def test_equivalent_is_within_the_margin_on_both_sides(table, ntl, margin, verdict, interval):
    condition = Condition("test/accuracy", BETTER, margin=margin)
    reports = made(accuracy=([0.0] * len(ntl), ntl))
    finding = judge(claim(condition, kind="equivalent"), table, "cpu", reports)
    assert finding.verdict is verdict
    assert finding.weakest.ours.mean == pytest.approx(margin - abs(sum(ntl) / len(ntl)))
    assert finding.weakest.paper == pytest.approx(margin - 0.1)
    if interval:
        assert (finding.weakest.ours.low, finding.weakest.ours.high) == pytest.approx(interval)


WINS, LOSES, OPEN = [9.0, 9.1, 9.2], [-9.0, -9.1, -9.2], [-1.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("accuracy", "gain", "verdict"),
    [
        (WINS, WINS, Verdict.REPRODUCED),
        (WINS, OPEN, Verdict.INCONCLUSIVE),
        (WINS, [], Verdict.INCONCLUSIVE),
        (WINS, LOSES, Verdict.CONTRADICTED),
        ([], LOSES, Verdict.CONTRADICTED),
        ([], [], Verdict.NOT_RUN),
    ],
)
def test_every_condition_must_hold_and_the_weakest_is_shown(table, accuracy, gain, verdict):
    reports = made(
        accuracy=([0.0] * len(accuracy), accuracy), mae=([0.0] * len(gain), [-x for x in gain])
    )
    finding = judge(claim(ACCURACY, MAE), table, "cpu", reports)
    assert finding.verdict is verdict
    if gain is not WINS:
        assert finding.weakest.condition is (MAE if accuracy else finding.weakest.condition)


def test_a_contrast_of_two_metrics_is_formed_within_each_seed(table):
    reports = made(accuracy=([0.0] * 3, [4.0, 5.0, 9.0]), invalid=([0.0] * 3, [1.0, 1.0, 4.0]))
    condition = Condition("test/accuracy", BETTER, minus="test/invalid")
    effect = judge(claim(condition), table, "cpu", reports).weakest
    assert effect.ours.mean == pytest.approx((3 + 4 + 5) / 3)
    assert effect.ours.std == 1
    assert math.isnan(effect.paper)


seeds = st.lists(st.floats(-10, 10).map(lambda x: round(x, 2)), min_size=0, max_size=5)


@given(seeds, seeds, st.sampled_from(["better", "harmless", "equivalent"]), st.floats(0.1, 5))
def test_a_verdict_is_what_its_interval_says(ce, ntl, kind, margin):
    table = Table(
        id="toy",
        title="",
        source="",
        paper="ntl/table2.csv",
        experiment="toy",
        seeds={},
        splits=["test"],
        columns=[Column("accuracy", "Accuracy", better="higher")],
        rows=[Row("CE", []), Row("NTL λ=0.5", [])],
        notes={},
    )
    condition = Condition("test/accuracy", BETTER, margin=None if kind == "better" else margin)
    finding = judge(claim(condition, kind=kind), table, "cpu", made(accuracy=(ce, ntl)))
    ours = finding.weakest.ours
    common = min(len(ce), len(ntl))
    assert ours.n == common
    assert (finding.verdict is Verdict.NOT_RUN) == (common == 0)
    assert (finding.verdict is Verdict.REPRODUCED) == (common > 1 and ours.low > 0)
    assert (finding.verdict is Verdict.CONTRADICTED) == (common > 1 and ours.high < 0)
    if common > 1:
        assert ours.low <= ours.mean + 1e-9
        assert ours.mean <= ours.high + 1e-9


def test_a_scale_that_says_nothing_counts_as_not_run(table):
    reports = made(accuracy=([0.0] * 3, WINS))
    limited = claim(ACCURACY, untestable={"cpu": "too small"})
    assert judge(limited, table, "cpu", reports).verdict is Verdict.NOT_RUN
    assert judge(limited, table, "gpu", reports).verdict is Verdict.REPRODUCED


def test_the_page(table, tmp_path):
    (tmp_path / "tables" / "cpu").mkdir(parents=True)
    (tmp_path / "tables" / "cpu" / "toy.md").touch()
    claims = [
        claim(ACCURACY, MAE, id="both"),
        claim(
            Condition("test/mae", BETTER, margin=0.5),
            kind="harmless",
            id="open",
            margin_is="half of CE's",
            untestable={"cpu": "too small", "paper": "too large"},
        ),
    ]
    reports = made(accuracy=([0.0] * 3, WINS), mae=([0.0] * 3, [-6.0, -7.0, -8.0]))
    findings = {
        "cpu": [judge(each, table, "cpu", reports) for each in claims],
        "gpu": [judge(each, table, "gpu", {}) for each in claims],
    }
    text = ledger(claims, {"toy": table}, findings, tmp_path)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines[0] == "<!-- generated by make claims; do not edit -->"
    assert "| scale | reproduced | inconclusive | not run | contradicted |" in lines
    assert "| `cpu` | 1 | 0 | 1 | 0 |" in lines
    assert "| `gpu` | 0 | 0 | 2 | 0 |" in lines
    (both, unrun) = (line for line in lines if line.startswith("| `both`"))
    assert "| reproduced | **+7.0 [+4.5, +9.5]** | 3 | +1.0 | test/mae, weakest of 2 |" in both
    assert "Paper, table 0 ([toy](tables/cpu/toy.md))" in both
    assert "| not run | – | – |" in unrun
    assert "Paper, table 0 (toy)" in unrun
    assert "- `open`: half of CE's" in lines
    assert "- `open` at scale cpu: too small" in lines
    assert "too large" not in text
    assert "nan" not in text


def real_table(table_id: str) -> Table:
    return load_table(CONF / "table" / f"{table_id}.yaml")


def test_every_claim_names_what_the_tables_have():
    claims = load_claims(CLAIMS, real_table)
    assert len(claims) >= 18
    assert {each.kind for each in claims} == {"better", "harmless", "equivalent"}


def test_the_papers_own_numbers_support_its_claims():
    known = 0
    for each in load_claims(CLAIMS, real_table):
        for effect in judge(each, real_table(each.table), "cpu", {}).effects:
            if not math.isnan(effect.paper):
                known += 1
                assert effect.paper > 1e-9, (each.id, effect.condition)
    assert known > 40


GOOD = """\
claims:
  - id: a
    claim: A sentence.
    source: S
    kind: equivalent
    table: ntl-2
    margin_is: a reason
    conditions: [{metric: interpolate/mae, margin: 0.1, weights: {NTL-WAS λ=0.3: 1, CE: -1}}]
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("table: ntl-2", "table: ntl-99", "claim 'a': table 'ntl-99' is not defined"),
        ("CE: -1", "ce: -1", "claim 'a': table ntl-2 runs no row 'ce'"),
        ("interpolate/mae", "interpolate/mea", "has no metric 'interpolate/mea'"),
        ("margin: 0.1", "minus: test/mae, margin: 0.1", "has no metric 'test/mae'"),
        ("interpolate/mae", "interpolate/invalid", "which way interpolate/invalid is better"),
        ("kind: equivalent", "kind: equal", "kind 'equal': choose one of better, harmless"),
        ("kind: equivalent", "kind: better", "only harmless and equivalent .* margin_is"),
        ("margin: 0.1, ", "", "claims have a margin,"),
        ("    margin_is: a reason\n", "", "margin_is"),
        ("claim: A", "klaim: A", "klaim"),
        ("conditions: [{", "conditions: []\n    x: [{", "x"),
    ],
)
def test_a_claim_that_cannot_be_tested_is_one_line(tmp_path: Path, old, new, message):
    path = tmp_path / "claims.yaml"
    path.write_text(GOOD)
    assert load_claims(path, real_table)[0].conditions[0].margin == 0.1
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(UsageError, match=message) as error:
        load_claims(path, real_table)
    assert "\n" not in str(error.value)


def test_two_claims_of_one_name_are_refused(tmp_path: Path):
    path = tmp_path / "claims.yaml"
    path.write_text(GOOD + GOOD.removeprefix("claims:\n"))
    with pytest.raises(UsageError, match="two claims are called 'a'"):
        load_claims(path, real_table)
