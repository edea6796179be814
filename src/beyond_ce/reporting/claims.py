"""A paper's claims, each tested on the reports behind our tables, and the ledger of verdicts.

`conf/claims/<paper>.yaml` -> `Claim` -> one `Effect` per condition, a number with a 95% interval
that is above zero where the claim holds -> a verdict -> results/claims.md.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from beyond_ce.errors import UsageError, one_line
from beyond_ce.reporting.markdown import NOTHING, grid, interval
from beyond_ce.reporting.numbers import TableNumbers
from beyond_ce.reporting.statistics import Summary
from beyond_ce.reporting.tables import Reports, Table

KINDS = ("better", "harmless", "equivalent")


class Verdict(Enum):
    """What the seeds say about a claim, ordered from against it to for it."""

    CONTRADICTED = "contradicted"
    NOT_RUN = "not run"
    INCONCLUSIVE = "inconclusive"
    REPRODUCED = "reproduced"


@dataclass
class Condition:
    """One contrast of a table's rows, formed within each seed.

    Attributes:
        metric: `<split>/<metric>` of the table.
        weights: row label -> weight; {a: 1, b: -1} is a minus b.
        minus: another metric of the table, whose contrast is subtracted.
        margin: for claims that something is harmless or equivalent, in units of the metric.
    """

    metric: str
    weights: dict[str, float]
    minus: str | None = None
    margin: float | None = None


@dataclass
class Claim:
    """One claim of a paper.

    Attributes:
        claim: one sentence in our words.
        source: where the paper makes it.
        kind: what it says about every contrast. better: above zero, counted in the direction in
            which the metric improves. harmless: worse by less than the margin, if at all.
            equivalent: within the margin of zero on both sides.
        table: id of the table that tests it.
        conditions: all of them must hold.
        margin_is: the reason for the margin, where the kind needs one.
        untestable: scale -> why its runs say nothing about the claim, which then counts as not run.
    """

    id: str
    claim: str
    source: str
    kind: str
    table: str
    conditions: list[Condition]
    margin_is: str | None = None
    untestable: dict[str, str] = field(default_factory=dict)


@dataclass
class Claims:
    """The content of `conf/claims/<paper>.yaml`."""

    claims: list[Claim] = field(default_factory=list)


@dataclass(frozen=True)
class Effect:
    """A condition's number: above zero where it holds, in units of its metric.

    Attributes:
        ours: mean over seeds with its 95% interval.
        paper: the same effect in the paper's means; NaN where the paper has no number.
    """

    condition: Condition
    ours: Summary
    paper: float

    @property
    def verdict(self) -> Verdict:
        if self.ours.n == 0:
            return Verdict.NOT_RUN
        if self.ours.low > 0:
            return Verdict.REPRODUCED
        if self.ours.high < 0:
            return Verdict.CONTRADICTED
        return Verdict.INCONCLUSIVE  # one seed, which has no interval, included

    @property
    def strength(self) -> tuple[int, float]:
        """Sorts effects, weakest first: by verdict, then by the lower end in interval widths."""
        width = self.ours.high - self.ours.low
        lower = self.ours.low / width if width else math.copysign(math.inf, self.ours.low)
        return list(Verdict).index(self.verdict), -math.inf if math.isnan(lower) else lower


@dataclass(frozen=True)
class Finding:
    """A claim at one scale."""

    claim: Claim
    effects: Sequence[Effect]

    @property
    def verdict(self) -> Verdict:
        """Reproduced only if every condition is; contradicted if any of them is."""
        verdicts = {effect.verdict for effect in self.effects}
        if len(verdicts) == 1:
            return verdicts.pop()
        if Verdict.CONTRADICTED in verdicts:
            return Verdict.CONTRADICTED
        return Verdict.INCONCLUSIVE

    @property
    def weakest(self) -> Effect:
        return min(self.effects, key=lambda effect: effect.strength)


def load_claims(path: Path, table_of: Callable[[str], Table]) -> list[Claim]:
    """Reads a paper's claims and refuses, in one line, a claim that no table can test.

    Args:
        table_of: a table's definition by its id; raises a UsageError where there is none.
    """
    try:
        merged = OmegaConf.merge(OmegaConf.structured(Claims), OmegaConf.load(path))
        loaded = OmegaConf.to_object(merged)
    except (OSError, OmegaConfBaseException, YAMLError) as error:
        raise UsageError(f"{path}: {one_line(error)}") from error
    assert isinstance(loaded, Claims)
    repeated = [name for name, n in Counter(c.id for c in loaded.claims).items() if n > 1]
    if repeated:
        raise UsageError(f"{path}: two claims are called '{repeated[0]}'")
    for claim in loaded.claims:
        where = f"{path}: claim '{claim.id}'"
        try:
            table = table_of(claim.table)
        except UsageError as error:
            raise UsageError(f"{where}: table '{claim.table}' is not defined ({error})") from error
        for problem in _problems(claim, table):
            raise UsageError(f"{where}: {problem}")
    return loaded.claims


def _problems(claim: Claim, table: Table) -> list[str]:
    rows = {row.label for row in table.rows if row.overrides is not None}
    metrics = TableNumbers(table, {}).metrics
    needs_margin = claim.kind != "better"
    problems = [] if claim.conditions else ["it has no conditions"]
    if claim.kind not in KINDS:
        problems.append(f"kind '{claim.kind}': choose one of {', '.join(KINDS)}")
    if needs_margin != (claim.margin_is is not None):
        problems.append("only harmless and equivalent claims have a margin_is, and they need one")
    for condition in claim.conditions:
        unknown = sorted(set(condition.weights) - rows)
        names = [condition.metric, *([condition.minus] if condition.minus else [])]
        missing = [name for name in names if name not in metrics]
        if unknown:
            problems.append(f"table {table.id} runs no row '{unknown[0]}'")
        if missing:
            problems.append(f"table {table.id} has no metric '{missing[0]}'")
        elif metrics[condition.metric][1].better is None:
            problems.append(f"table {table.id} does not say which way {condition.metric} is better")
        if needs_margin != (condition.margin is not None and condition.margin > 0):
            problems.append("only harmless and equivalent claims have a margin, and they need one")
    return problems


def judge(claim: Claim, table: Table, scale: str, reports: Reports) -> Finding:
    """Tests a claim on the reports of its table at one scale."""
    numbers = TableNumbers(table, {} if scale in claim.untestable else reports)
    return Finding(
        claim, [_effect(condition, claim.kind, numbers) for condition in claim.conditions]
    )


def _effect(condition: Condition, kind: str, numbers: TableNumbers) -> Effect:
    column = numbers.metrics[condition.metric][1]
    sign = 1.0 if column.better == "higher" else -1.0
    gain = {row: sign * weight for row, weight in condition.weights.items()}
    ours, paper = numbers.combine(gain, condition.metric, condition.minus)
    margin = condition.margin or 0.0
    if kind == "equivalent":
        return Effect(condition, _within(ours, margin), margin - abs(paper))
    return Effect(condition, _shifted(ours, margin), paper + margin)


def _shifted(difference: Summary, margin: float) -> Summary:
    low, high = difference.low + margin, difference.high + margin
    return Summary(difference.mean + margin, difference.std, low, high, difference.n)


def _within(difference: Summary, margin: float) -> Summary:
    """margin - |difference|, with the interval that it takes over the difference's interval.

    Its lower end is above zero exactly when the difference's interval lies within the margin on
    both sides (Schuirmann's two one-sided tests, at 2.5% each). A mean of |difference| over seeds
    would count the seeds' noise as distance.
    """
    low, high = difference.low, difference.high
    farthest = max(abs(low), abs(high))
    nearest = 0.0 if low <= 0 <= high else min(abs(low), abs(high))
    return Summary(
        margin - abs(difference.mean),
        difference.std,
        margin - farthest,
        margin - nearest,
        difference.n,
    )


def ledger(
    claims: Sequence[Claim],
    tables: Mapping[str, Table],
    findings: Mapping[str, Sequence[Finding]],
    folder: Path,
) -> str:
    """The ledger as markdown.

    Args:
        tables: id -> definition of every table that the claims name.
        findings: scale -> one finding per claim.
        folder: where the file goes; tables that exist below it are linked.
    """
    counts = [
        [f"`{scale}`", *(str(_count(scale_findings, verdict)) for verdict in reversed(Verdict))]
        for scale, scale_findings in findings.items()
    ]
    parts = [
        "<!-- generated by make claims; do not edit -->\n# The papers' claims against our runs",
        f"Generated by `make claims`; do not edit. {len(claims)} claims, each tested on the "
        "reports behind the linked table, paired by seed. An effect is in units of its metric and "
        "signed so that above zero speaks for the claim; for a claim that something is harmless or "
        "equivalent it is the distance inside a margin, whose reason is given below. A claim is "
        "*reproduced* when the 95% interval (Student t) is above zero, *contradicted* when it is "
        "below, *inconclusive* when it includes zero or there is one seed alone. Where a claim has "
        "several conditions, all must hold and the weakest is shown. The paper's figure is the "
        "same effect in its own means.",
        "The intervals are not corrected for the number of comparisons: of a hundred tests of "
        "effects that do not exist, five would exclude zero on one side or the other.",
        grid(["scale", *(verdict.value for verdict in reversed(Verdict))], counts),
    ]
    for scale, scale_findings in findings.items():
        parts.append(f"## Scale {scale}")
        parts.append(_section(tables, scale_findings, scale, folder))
    margins = [f"- `{claim.id}`: {claim.margin_is}" for claim in claims if claim.margin_is]
    if margins:
        parts.append("## Margins\n\n" + "\n".join(margins))
    left_out = [
        f"- `{claim.id}` at scale {scale}: {reason}"
        for claim in claims
        for scale, reason in claim.untestable.items()
        if scale in findings
    ]
    if left_out:
        parts.append("## Not judged\n\n" + "\n".join(left_out))
    return "\n\n".join(parts) + "\n"


def _count(findings: Sequence[Finding], verdict: Verdict) -> int:
    return sum(finding.verdict is verdict for finding in findings)


def _section(
    tables: Mapping[str, Table], findings: Sequence[Finding], scale: str, folder: Path
) -> str:
    lines = []
    for finding in findings:
        claim, effect = finding.claim, finding.weakest
        column = TableNumbers(tables[claim.table], {}).metrics[effect.condition.metric][1]
        page = f"tables/{scale}/{claim.table}.md"
        lines.append(
            [
                f"`{claim.id}`: {claim.claim}",
                finding.verdict.value,
                interval(effect.ours, column.format),
                str(effect.ours.n or NOTHING),
                NOTHING if math.isnan(effect.paper) else f"{effect.paper:+{column.format}}",
                effect.condition.metric + _weakest_of(len(finding.effects)),
                f"{claim.source} ([{claim.table}]({page}))"
                if (folder / page).is_file()
                else f"{claim.source} ({claim.table})",
            ]
        )
    header = ["claim", "verdict", "effect", "seeds", "paper's", "metric", "source"]
    return grid(header, lines)


def _weakest_of(n: int) -> str:
    return f", weakest of {n}" if n > 1 else ""
