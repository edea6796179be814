import math
import statistics
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from beyond_ce.reporting.claims import Claim, Condition
from beyond_ce.reporting.tables import Column, Job, Row, Table
from beyond_ce.reporting.verdicts import Verdict, judge

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
                run = {"run": f"{row} {seed}", "metrics": {}}
                report = reports.setdefault(Job(row, seed, ()), run)
                report["metrics"][f"test/{metric}"] = value
    return reports


ACCURACY = Condition("test/accuracy", BETTER)
MAE = Condition("test/mae", BETTER)


@pytest.mark.parametrize(
    ("ntl", "verdict"),
    [
        ([5.0, 6.0, 7.0], Verdict.REPRODUCED),
        ([-5.0, -6.0, -7.0], Verdict.CONTRADICTED),
        ([1.0, 2.0, 3.0], Verdict.UNDECIDED),
        # The paper's effect is 0.1, and half of it the margin; the half width is 2.48 x 0.01.
        ([0.01, 0.02, 0.03], Verdict.NO_EFFECT),
        ([-0.01, -0.02, -0.03], Verdict.NO_EFFECT),
        ([0.02, 0.03, 0.04], Verdict.REPRODUCED),
        ([0.016, 0.026, 0.036], Verdict.REPRODUCED),
        ([0.0, 0.03, 0.06], Verdict.UNDECIDED),
        ([5.0], Verdict.UNDECIDED),
        ([], Verdict.NOT_TESTABLE),
    ],
)
def test_the_verdicts(table, ntl, verdict):
    finding = judge(claim(ACCURACY), table, "cpu", made(accuracy=([0.0] * len(ntl), ntl)))
    assert finding.verdict is verdict
    effect = finding.weakest
    assert effect.ours.n == len(ntl)
    if len(ntl) == 3:
        mean, half = sum(ntl) / 3, T2 * abs(ntl[1] - ntl[0])
        assert (effect.ours.low, effect.ours.high) == pytest.approx((mean - half, mean + half))
    assert effect.paper == pytest.approx(0.1)


def test_lower_is_better_where_the_table_says_so(table):
    finding = judge(claim(MAE), table, "cpu", made(mae=([9.0, 9.0, 9.0], [1.0, 2.0, 3.0])))
    assert finding.verdict is Verdict.REPRODUCED
    assert finding.weakest.ours.mean == 7
    assert finding.weakest.paper == 1  # 2.0 of CE less 1.0 of NTL


def test_rows_without_the_seed_of_another_do_not_count(table):
    finding = judge(claim(ACCURACY), table, "cpu", made(accuracy=([0.0, 0.0, 0.0], [5.0])))
    assert (finding.verdict, finding.weakest.ours.n) == (Verdict.UNDECIDED, 1)


@pytest.mark.parametrize(
    ("margin", "verdict"),
    [
        (1 + T2 + 0.01, Verdict.REPRODUCED),
        (1 + T2 - 0.01, Verdict.UNDECIDED),
        (0.01, Verdict.UNDECIDED),
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


def test_a_difference_of_about_the_margin_is_told_as_one(table):
    condition = Condition("test/accuracy", BETTER, margin=0.5)
    ntl = [0.45, 0.5, 0.55] * 2
    given_claim = claim(condition, kind="equivalent")
    finding = judge(given_claim, table, "cpu", made(accuracy=([0.0] * 6, ntl)))
    assert (finding.verdict, finding.seeds_to_decide) == (Verdict.UNDECIDED, 3)
    assert finding.near_margin
    few = judge(given_claim, table, "cpu", made(accuracy=([0.0] * 3, OPEN)))
    assert few.seeds_to_decide > 3
    assert not few.near_margin
    better = judge(claim(ACCURACY), table, "cpu", made(accuracy=([0.0] * 3, OPEN)))
    assert not better.near_margin


def test_what_equal_seeds_could_not_show_is_not_called_detectable(table):
    condition = Condition("test/accuracy", BETTER, margin=4.0)
    reports = made(accuracy=([0.0] * 3, OPEN))
    wide = judge(claim(condition, kind="equivalent"), table, "cpu", reports).weakest
    assert wide.detectable == pytest.approx(5.653 / 3**0.5, abs=0.01)
    narrow = replace(condition, margin=3.0)
    assert math.isnan(
        judge(claim(narrow, kind="equivalent"), table, "cpu", reports).weakest.detectable
    )


def test_a_claim_rests_on_runs_of_shared_seeds_alone(table):
    finding = judge(claim(ACCURACY), table, "cpu", made(accuracy=([0.0] * 5, OPEN)))
    assert sorted(finding.runs.values()) == [0, 0, 1, 1, 2, 2]


def test_a_scale_with_a_variant_of_its_own_is_judged_by_it(table):
    reports = made(accuracy=([0.0] * 3, OPEN))
    for seed in range(3):
        metrics = reports[Job("NTL λ=0.5", seed, ())]["metrics"]
        metrics["test/accuracy@large"] = 9.0 + seed / 10
    row = next(row for row in table.rows if row.label == "NTL λ=0.5")
    row.variant_at["gpu"] = "large"
    assert judge(claim(ACCURACY), table, "cpu", reports).verdict is Verdict.UNDECIDED
    assert judge(claim(ACCURACY), table, "gpu", reports).verdict is Verdict.REPRODUCED


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
        ([0.0, 1.0, 2.0], 3.0, Verdict.UNDECIDED, (3 - 1 - T2, 3.0)),
        ([0.0, -1.0, -2.0], 3.0, Verdict.UNDECIDED, (3 - 1 - T2, 3.0)),
        # [3.52, 8.48] lies outside of a margin of 3, on the better side or on the worse.
        ([5.0, 6.0, 7.0], 3.0, Verdict.CONTRADICTED, (3 - 6 - T2, 3 - 6 + T2)),
        ([-5.0, -6.0, -7.0], 3.0, Verdict.CONTRADICTED, (3 - 6 - T2, 3 - 6 + T2)),
        ([1.0], 4.0, Verdict.UNDECIDED, None),
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
SAME = [-0.001, 0.0, 0.001]


@pytest.mark.parametrize(
    ("accuracy", "gain", "verdict"),
    [
        (WINS, WINS, Verdict.REPRODUCED),
        (WINS, OPEN, Verdict.UNDECIDED),
        (WINS, [], Verdict.NOT_TESTABLE),
        (WINS, LOSES, Verdict.CONTRADICTED),
        ([], LOSES, Verdict.CONTRADICTED),
        (SAME, SAME, Verdict.NO_EFFECT),
        (WINS, SAME, Verdict.NO_EFFECT),
        (OPEN, SAME, Verdict.UNDECIDED),
        (SAME, LOSES, Verdict.CONTRADICTED),
        ([], [], Verdict.NOT_TESTABLE),
    ],
)
def test_every_condition_must_hold_and_the_weakest_is_shown(table, accuracy, gain, verdict):
    reports = made(
        accuracy=([0.0] * len(accuracy), accuracy), mae=([0.0] * len(gain), [-x for x in gain])
    )
    finding = judge(claim(ACCURACY, MAE), table, "cpu", reports)
    assert finding.verdict is verdict
    assert finding.holding == (accuracy is WINS) + (gain is WINS)
    assert finding.weakest.verdict is verdict
    if accuracy is WINS and gain is not WINS:
        assert finding.weakest.condition is MAE


def test_a_contrast_of_two_metrics_is_formed_within_each_seed(table):
    reports = made(accuracy=([0.0] * 3, [4.0, 5.0, 9.0]), invalid=([0.0] * 3, [1.0, 1.0, 4.0]))
    condition = Condition("test/accuracy", BETTER, minus="test/invalid")
    effect = judge(claim(condition), table, "cpu", reports).weakest
    assert effect.ours.mean == pytest.approx((3 + 4 + 5) / 3)
    assert effect.ours.std == 1
    assert math.isnan(effect.paper)


def test_several_conditions_are_judged_by_holm_both_ways(table):
    # t = 5 with two degrees of freedom is p = 0.0189 on one side: enough for one test, not for two.
    some = [5 / 3**0.5 + x for x in (-1.0, 0.0, 1.0)]
    for sign, verdict in ((1, Verdict.REPRODUCED), (-1, Verdict.CONTRADICTED)):
        ntl = [sign * x for x in some]
        alone = judge(claim(ACCURACY), table, "cpu", made(accuracy=([0.0] * 3, ntl)))
        assert alone.verdict is verdict
        reports = made(accuracy=([0.0] * 3, ntl), mae=([0.0] * 3, OPEN))
        both = judge(claim(ACCURACY, MAE), table, "cpu", reports)
        assert both.verdict is Verdict.UNDECIDED
        assert (both.holding, len(both.effects)) == (0, 2)
        # With the other one clear, Holm leaves the full level for this one.
        reports = made(accuracy=([0.0] * 3, ntl), mae=([0.0] * 3, [-sign * x for x in WINS]))
        both = judge(claim(ACCURACY, MAE), table, "cpu", reports)
        assert both.verdict is verdict


def test_seeds_that_would_decide_by_hand(table):
    # Spread 1; the paper's effect is 0.1, so the half width is to be 0.025: (4.3027 / 0.025)^2.
    effect = judge(claim(ACCURACY), table, "cpu", made(accuracy=([0.0] * 3, OPEN))).weakest
    assert effect.margin == pytest.approx(0.05)
    assert effect.seeds_to_decide == math.ceil((4.302653 / 0.025) ** 2)
    assert effect.seeds_for_power == 787  # of a t test for an effect of a tenth of the spread
    # A margin of its own instead, and two conditions: t at 1 - 0.025 / 2 is 6.2053.
    own = [replace(ACCURACY, margin=4.0), MAE]
    reports = made(accuracy=([0.0] * 3, OPEN), mae=([0.0] * 3, OPEN))
    finding = judge(claim(*own, margin_is="a reason"), table, "cpu", reports)
    assert finding.effects[0].seeds_to_decide == math.ceil((6.205347 / 2.0) ** 2)
    # The paper's gain in MAE is 1: a margin of 0.5, a half width of 0.25.
    assert finding.seeds_to_decide == math.ceil((6.205347 / 0.25) ** 2)
    one = judge(claim(ACCURACY), table, "cpu", made(accuracy=([0.0], [1.0])))
    assert (one.seeds_to_decide, one.seeds_for_power) == (None, None)


@given(
    st.lists(st.floats(-3, 3).map(lambda x: round(x, 2)), min_size=2, max_size=5),
    st.lists(st.floats(-3, 3).map(lambda x: round(x, 2)), min_size=2, max_size=5),
    st.floats(0.2, 3),
    st.floats(-1, 1),
)
def test_that_many_seeds_decide_whatever_their_mean_is(first, other, margin, mean):
    table = one_column()
    conditions = [replace(ACCURACY, margin=margin), replace(ACCURACY, margin=margin, weights=BACK)]
    given_claim = claim(*conditions[: 1 + len(other) % 2], margin_is="a reason")
    n = judge(given_claim, table, "cpu", made(accuracy=([0.0] * len(first), first))).effects[0]
    assume(n.spread > 0.01 and n.seeds_to_decide < 2_000)
    # Later seeds that put the mean where it is wanted, without spreading more than the first.
    later = n.seeds_to_decide - len(first)
    wanted = statistics.mean(first) + mean * n.spread
    rest = [(wanted * n.seeds_to_decide - sum(first)) / later] * later if later else []
    assume(statistics.stdev([*first, *rest]) <= statistics.stdev(first))
    table.seeds["cpu"] = list(range(len(first)))
    reports = made(accuracy=([0.0] * n.seeds_to_decide, [*first, *rest]))
    finding = judge(given_claim, table, "cpu", reports)
    assert finding.weakest.ours.n == n.seeds_to_decide
    edge = min(abs(finding.weakest.ours.low), abs(finding.weakest.ours.high))
    assume(edge > 1e-6)
    assert finding.verdict is not Verdict.UNDECIDED


BACK = {"NTL λ=0.5": -1.0, "CE": 1.0}
seeds = st.lists(st.floats(-10, 10).map(lambda x: round(x, 2)), min_size=0, max_size=5)


def one_column() -> Table:
    return Table(
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


@given(seeds, seeds, st.sampled_from(["better", "harmless", "equivalent"]), st.floats(0.1, 5))
def test_a_verdict_is_what_its_interval_says(ce, ntl, kind, margin):
    condition = Condition("test/accuracy", BETTER, margin=margin)
    reports = made(accuracy=(ce, ntl))
    finding = judge(claim(condition, kind=kind), one_column(), "cpu", reports)
    ours, plain = finding.weakest.ours, finding.weakest.difference
    common = min(len(ce), len(ntl))
    assert ours.n == common * (finding.untestable is None)
    assert (finding.verdict is Verdict.NOT_TESTABLE) == (ours.n == 0)
    if common < 2 or finding.untestable:
        assert finding.verdict in (Verdict.UNDECIDED, Verdict.NOT_TESTABLE)
        return
    ends = (ours.low, ours.high, margin - plain.high, margin + plain.low)
    assume(min(map(abs, ends)) > 1e-9)
    inside = -margin < plain.low and plain.high < margin
    expected = Verdict.NO_EFFECT if kind == "better" and inside else Verdict.UNDECIDED
    if ours.low > 0 or ours.high < 0:
        expected = Verdict.REPRODUCED if ours.low > 0 else Verdict.CONTRADICTED
    assert finding.verdict is expected
    assert ours.low <= ours.mean + 1e-9
    assert ours.mean <= ours.high + 1e-9


def test_an_effect_smaller_than_the_margin_is_called_so(table):
    reports = made(accuracy=([0.0] * 3, [0.010, 0.011, 0.012]))
    assert judge(claim(ACCURACY), table, "cpu", reports).label == (
        "reproduced, by less than the margin"
    )
    reports = made(accuracy=([0.0] * 3, [-0.010, -0.011, -0.012]))
    assert judge(claim(ACCURACY), table, "cpu", reports).label == (
        "contradicted, by less than the margin"
    )
    assert judge(claim(ACCURACY), table, "cpu", made(accuracy=([0.0] * 3, WINS))).label == (
        "reproduced"
    )


def test_without_the_papers_number_nothing_is_of_its_size(table):
    condition = Condition("test/accuracy", BETTER, minus="test/invalid")
    reports = made(accuracy=([0.0] * 3, SAME), invalid=([0.0] * 3, [0.0] * 3))
    finding = judge(claim(condition), table, "cpu", reports)
    assert finding.verdict is Verdict.UNDECIDED
    assert (finding.seeds_to_decide, finding.seeds_for_power) == (None, None)


def test_a_scale_that_says_nothing_is_not_testable(table):
    reports = made(accuracy=([0.0] * 3, WINS))
    limited = claim(ACCURACY, untestable={"cpu": {"size": "too small"}})
    finding = judge(limited, table, "cpu", reports)
    assert finding.label == "not testable here: size"
    assert finding.untestable == ("size", "too small")
    assert finding.weakest.ours.n == 0
    assert set(finding.runs.values()) == {0, 1, 2}
    assert judge(limited, table, "gpu", reports).verdict is Verdict.REPRODUCED
    assert judge(claim(ACCURACY), table, "cpu", {}).label == "not testable here: missing"


@pytest.mark.parametrize(
    ("ce", "ntl", "floor", "reason"),
    [
        ([0.0] * 3, [0.0] * 3, {}, "test/accuracy is 0.00 in every run"),
        ([0.5] * 3, [0.5] * 3, {}, "test/accuracy is 0.50 in every run"),
        ([0.1] * 3, [0.2] * 3, {"test/accuracy": 0.21}, "0.20 at best; the floor is 0.21"),
        ([0.1] * 3, [0.2, 0.2, 0.3], {"test/accuracy": 0.2}, None),
        ([0.0] * 3, [0.0, 0.0, 0.1], {}, None),
        ([0.0], [0.0], {}, None),
    ],
)
def test_at_the_floor_nothing_can_be_told(table, ce, ntl, floor, reason):
    each = claim(ACCURACY, floor=floor, floor_is="a reason" if floor else None)
    finding = judge(each, table, "cpu", made(accuracy=(ce, ntl)))
    if reason is None:
        assert finding.untestable is None
    else:
        assert finding.label == "not testable here: floor"
        assert reason in finding.untestable[1]


def test_the_floor_of_an_error_is_above(table):
    each = claim(MAE, floor={"test/mae": 5.0}, floor_is="a reason")
    for ntl, at_floor in ((6.0, True), (5.0, True), (4.0, False)):
        reports = made(mae=([9.0, 9.1, 9.2], [ntl] * 3))
        assert (judge(each, table, "cpu", reports).untestable is not None) == at_floor


def test_no_unexplained_difference_at_all_is_no_floor(table):
    condition = Condition("test/mae", BETTER, margin=0.1)
    each = claim(condition, kind="harmless", margin_is="a reason")
    reports = made(mae=([0.0] * 3, [0.0] * 3))
    assert judge(each, table, "cpu", reports).verdict is Verdict.REPRODUCED
