"""Verdicts on a paper's claims, from the reports behind our tables.

A `Claim` -> one `Effect` per condition, a number with a 95% interval that is above zero where the
claim holds -> a `Finding` with its verdict; `ledger` writes them down.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from beyond_ce.reporting.claims import FLOOR, MISSING, Claim, Condition
from beyond_ce.reporting.numbers import TableNumbers
from beyond_ce.reporting.power import (
    detectable,
    holm,
    p_value,
    seeds_for_equivalence,
    seeds_for_power,
    seeds_for_width,
)
from beyond_ce.reporting.scales import variants_at
from beyond_ce.reporting.statistics import NAN, Summary
from beyond_ce.reporting.tables import Reports, Table

# An effect within half of the paper's is none of the paper's size, unless the claim says otherwise.
MARGIN_SHARE = 0.5


class Verdict(Enum):
    """What the seeds say about a claim, or about one of its conditions."""

    REPRODUCED = "reproduced"
    NO_EFFECT = "no effect of the paper's size"
    UNDECIDED = "undecided"
    NOT_TESTABLE = "not testable here"
    CONTRADICTED = "contradicted"


@dataclass(frozen=True)
class Effect:
    """A condition's number: above zero where it holds, in units of its metric.

    Attributes:
        ours: mean over seeds with its 95% interval.
        paper: the same effect in the paper's means; NaN where the paper has no number.
        difference: ours without the margin that a harmless or equivalent condition allows.
        margin: the condition's, or half of the paper's effect; NaN where there is neither.
        within: the difference is within the margin on both sides.
        tests: how many conditions of the claim are judged together.
        equivalent: the claim is that the difference is within the margin on both sides.
    """

    condition: Condition
    ours: Summary
    paper: float
    difference: Summary
    margin: float
    verdict: Verdict = Verdict.UNDECIDED
    within: bool = False
    tests: int = 1
    equivalent: bool = False

    @property
    def strength(self) -> float:
        """Sorts effects, weakest first: the lower end of the interval in its widths."""
        width = self.ours.high - self.ours.low
        lower = self.ours.low / width if width else math.copysign(math.inf, self.ours.low)
        return -math.inf if math.isnan(lower) else lower

    @property
    def spread(self) -> float:
        """Standard deviation between seeds that makes the interval; NaN for one seed."""
        return self.difference.standard_error * self.difference.n**0.5

    @property
    def detectable(self) -> float:
        """The smallest true effect that these seeds would find with 80% probability.

        For an equivalent claim it is a distance inside the margin, and NaN if beyond it.
        """
        smallest = detectable(self.difference)
        return NAN if self.equivalent and smallest > self.margin else smallest

    @property
    def seeds_for_power(self) -> int | None:
        """Seeds that would show the paper's effect with 80% probability.

        For a harmless or equivalent claim of which the paper has no number: that nothing differs.
        """
        target = self.margin if math.isnan(self.paper) else self.paper
        if self.equivalent:
            return seeds_for_equivalence(self.spread, self.margin, self.margin - target)
        return seeds_for_power(self.spread, target)

    @property
    def seeds_to_decide(self) -> int | None:
        """Seeds in all, first stage included, after which the interval is as wide as the margin.

        Such an interval excludes zero or lies within the margin, whatever its mean: an effect, or
        none of the paper's size. For harmless and equivalent claims it shows that there is no harm,
        or no difference, with 95% probability where there is none at all; how many seeds a
        difference close to the margin would take, nobody knows. Depends on the spread only and not
        on the mean. None where there is no spread or no margin.
        """
        if math.isnan(self.spread) or not self.margin > 0:
            return None
        first = self.difference.freedom + 1
        return seeds_for_width(self.spread, first, self.margin / 2, self.tests)


@dataclass(frozen=True)
class Finding:
    """A claim at one scale.

    Attributes:
        runs: name -> seed of the runs that it rests on.
        untestable: (size or floor, why), if the claim is not judged at this scale.
    """

    claim: Claim
    effects: Sequence[Effect]
    runs: Mapping[str, int] = field(default_factory=dict)
    untestable: tuple[str, str] | None = None

    @property
    def verdict(self) -> Verdict:
        """Contradicted if a condition is, reproduced if every one is.

        No effect of the paper's size if every condition is decided. Where one is missing, the claim
        as a whole cannot be tested.
        """
        verdicts = {effect.verdict for effect in self.effects}
        for verdict in (Verdict.CONTRADICTED, Verdict.NOT_TESTABLE, Verdict.UNDECIDED):
            if verdict in verdicts:
                return verdict
        return Verdict.NO_EFFECT if Verdict.NO_EFFECT in verdicts else Verdict.REPRODUCED

    @property
    def label(self) -> str:
        """The verdict with its reason."""
        if self.verdict is Verdict.NOT_TESTABLE:
            return f"{self.verdict.value}: {self.untestable[0] if self.untestable else MISSING}"
        if self.weakest.within and self.verdict in (Verdict.REPRODUCED, Verdict.CONTRADICTED):
            return f"{self.verdict.value}, by less than the margin"
        return self.verdict.value

    @property
    def holding(self) -> int:
        return sum(effect.verdict is Verdict.REPRODUCED for effect in self.effects)

    @property
    def weakest(self) -> Effect:
        """Of the conditions that make the verdict, the one that speaks least for the claim."""
        deciding = [effect for effect in self.effects if effect.verdict is self.verdict]
        return min(deciding, key=lambda effect: effect.strength)

    @property
    def seeds_to_decide(self) -> int | None:
        """Seeds that would decide every condition that is undecided; None where unknown."""
        return _largest([e.seeds_to_decide for e in self.undecided])

    @property
    def near_margin(self) -> bool:
        """Seeds enough to show no harm, or no difference, and yet it is undecided."""
        needed = self.seeds_to_decide
        ours = min((each.difference.n for each in self.undecided), default=0)
        return self.claim.kind != "better" and needed is not None and ours >= needed

    @property
    def seeds_for_power(self) -> int | None:
        """Seeds that would each find the paper's effect where it is undecided; None if unknown."""
        return _largest([e.seeds_for_power for e in self.undecided])

    @property
    def undecided(self) -> list[Effect]:
        return [effect for effect in self.effects if effect.verdict is Verdict.UNDECIDED]


@dataclass(frozen=True)
class Evidence:
    """What was judged at one scale.

    Attributes:
        findings: one per claim.
        reports: table id -> the reports behind it.
    """

    scale: str
    findings: Sequence[Finding]
    reports: Mapping[str, Reports]


def spec_of(finding: Finding, tables: Mapping[str, Table]) -> str:
    """The format spec, in its table, of the metric that makes a finding's verdict."""
    metrics = TableNumbers(tables[finding.claim.table], {}).metrics
    return metrics[finding.weakest.condition.metric][1].format


def _largest(numbers: Sequence[int | None]) -> int | None:
    known = [number for number in numbers if number is not None]
    return max(known) if known and len(known) == len(numbers) else None


def judge(claim: Claim, table: Table, scale: str, reports: Reports) -> Finding:
    """Tests a claim on the reports of its table at one scale.

    The conditions are judged together, in each direction by Holm's procedure: the probability that
    any of them is wrongly called reproduced is 2.5% at most, likewise contradicted, and likewise
    without effect.
    """
    table = variants_at(table, scale)
    numbers = TableNumbers(table, reports, table.seeds.get(scale))
    reasons = claim.untestable.get(scale)
    untestable = next(iter(reasons.items())) if reasons else _at_floor(claim, numbers)
    runs: dict[str, int] = {}
    for condition in claim.conditions:
        runs |= numbers.paired_runs(condition.weights, condition.metric, condition.minus)
    if untestable is not None:
        numbers = TableNumbers(table, {})
    effects = [_effect(condition, claim.kind, numbers) for condition in claim.conditions]
    return Finding(claim, _judged(effects, claim.kind), runs, untestable)


def _judged(effects: Sequence[Effect], kind: str) -> list[Effect]:
    """The effects of a claim's conditions with their verdicts."""
    tested = [effect for effect in effects if effect.ours.n > 0]
    for_claim = holm([p_value(each.difference, each.ours.mean) for each in tested])
    against = holm([p_value(each.difference, -each.ours.mean) for each in tested])
    # A harmless or equivalent condition holds within its margin: there is nothing else to find.
    rest = [e.margin - abs(e.difference.mean) if kind == "better" else NAN for e in tested]
    none = holm([p_value(e.difference, excess) for e, excess in zip(tested, rest, strict=True)])
    verdicts = zip(for_claim, against, none, strict=True)
    judged = []
    for effect in effects:
        if effect.ours.n == 0:
            judged.append(replace(effect, verdict=Verdict.NOT_TESTABLE))
            continue
        holds, fails, within = next(verdicts)
        verdict = Verdict.NO_EFFECT if within else Verdict.UNDECIDED
        if holds or fails:
            verdict = Verdict.REPRODUCED if holds else Verdict.CONTRADICTED
        judged.append(replace(effect, verdict=verdict, within=within, tests=len(tested)))
    return judged


def _at_floor(claim: Claim, numbers: TableNumbers) -> tuple[str, str] | None:
    """(floor, why) if no row of the claim has learned enough for a difference to show."""
    rows = list(dict.fromkeys(row for each in claim.conditions for row in each.weights))
    for metric, floor in claim.floor.items():
        column = numbers.metrics[metric][1]
        means = [numbers.combine({row: 1.0}, metric)[0].mean for row in rows]
        means = [mean for mean in means if not math.isnan(mean)]
        best = max(means, default=NAN) if column.better == "higher" else min(means, default=NAN)
        if best <= floor if column.better == "higher" else best >= floor:
            spec = column.format
            return FLOOR, f"{metric} is {best:{spec}} at best; the floor is {floor:{spec}}"
    for condition in claim.conditions if claim.kind == "better" else ():
        metric, spec = condition.metric, numbers.metrics[condition.metric][1].format
        values = [numbers.by_seed(row, metric) for row in condition.weights]
        distinct = {value for by_seed in values for value in by_seed.values()}
        if len(distinct) == 1 and all(len(by_seed) > 1 for by_seed in values) and len(values) > 1:
            return FLOOR, f"{metric} is {distinct.pop():{spec}} in every run"
    return None


def _effect(condition: Condition, kind: str, numbers: TableNumbers) -> Effect:
    column = numbers.metrics[condition.metric][1]
    sign = 1.0 if column.better == "higher" else -1.0
    gain = {row: sign * weight for row, weight in condition.weights.items()}
    ours, paper = numbers.combine(gain, condition.metric, condition.minus)
    if kind == "better":
        margin = condition.margin or (MARGIN_SHARE * paper if paper > 0 else NAN)
        return Effect(condition, ours, paper, ours, margin)
    margin = condition.margin or 0.0
    if kind == "equivalent":
        distance = _within(ours, margin)
        return Effect(condition, distance, margin - abs(paper), ours, margin, equivalent=True)
    return Effect(condition, _shifted(ours, margin), paper + margin, ours, margin)


def _shifted(difference: Summary, margin: float) -> Summary:
    low, high = difference.low + margin, difference.high + margin
    return replace(difference, mean=difference.mean + margin, low=low, high=high)


def _within(difference: Summary, margin: float) -> Summary:
    """margin - |difference|, with the interval that it takes over the difference's interval.

    Its lower end is above zero exactly when the difference's interval lies within the margin on
    both sides (Schuirmann's two one-sided tests, at 2.5% each). A mean of |difference| over seeds
    would count the seeds' noise as distance.
    """
    low, high = difference.low, difference.high
    farthest = max(abs(low), abs(high))
    nearest = 0.0 if low <= 0 <= high else min(abs(low), abs(high))
    return replace(
        difference,
        mean=margin - abs(difference.mean),
        low=margin - farthest,
        high=margin - nearest,
    )
