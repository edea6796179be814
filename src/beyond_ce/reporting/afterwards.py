"""What about the claims is not as it was when the first report on them was committed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from beyond_ce.reporting.claims import Claim
from beyond_ce.reporting.history import Former, History, changes
from beyond_ce.reporting.markdown import NOTHING, grid
from beyond_ce.reporting.numbers import TableNumbers
from beyond_ce.reporting.tables import Reports, Table
from beyond_ce.reporting.verdicts import Evidence, Finding, Verdict, judge

_OPEN = (Verdict.UNDECIDED, Verdict.NOT_TESTABLE)


@dataclass
class Afterwards:
    """What changed at one scale after the first reports.

    Attributes:
        unknown: why nothing can be known; None where git has the history.
        changed: one line of the ledger for each claim of which something changed.
        gone: a sentence for each claim that is no longer there.
        enlarged: claims that the first seeds left undecided and that are decided with seeds which
            were added to the table's own list.
        decided: how many claims are decided.
        on_later_recipe: how many of these on another recipe than the first.
    """

    scale: str
    unknown: str | None = None
    changed: list[list[str]] = field(default_factory=list)
    gone: dict[str, str] = field(default_factory=dict)
    enlarged: list[str] = field(default_factory=list)
    decided: int = 0
    on_later_recipe: int = 0

    def lines(self) -> Iterator[str]:
        """A section of the ledger."""
        if self.unknown:
            yield f"Unknown: {self.unknown}."
            return
        if not self.changed and not self.gone:
            yield "Nothing, says git."
            return
        yield (
            "From git: a claim is listed if its wording, condition or margin, or where it is "
            "judged, is not that of the commit in which the first report on it appeared; if its "
            "recipe changed after a verdict, given as the ledger had it last; or if reports of "
            "more seeds appeared later. A recipe is all settings that define a run, those of its "
            "evaluation too; one that was never judged in a committed ledger is not seen. *Then* "
            "is the verdict on the claim as it was, on today's reports. Claims that are not listed "
            f"are as they were, or have no report yet. Of {self.decided} decided verdicts "
            f"{self.on_later_recipe} rest on a recipe that was chosen after results with a former "
            "one were known.\n"
        )
        yield grid(["claim", "first report", "what changed", "then", "now"], self.changed)
        for sentence in self.gone.values():
            yield f"\n{sentence}"


def afterwards(
    claims: Sequence[Claim], tables: Mapping[str, Table], evidence: Evidence, history: History
) -> Afterwards:
    """Looks every finding's past up, and judges what was then on the reports of today."""
    found = Afterwards(evidence.scale, history.unknown)
    if found.unknown:
        return found
    names = {claim.id for claim in claims}
    for finding in evidence.findings:
        claim, reports = finding.claim, evidence.reports.get(finding.claim.table, {})
        is_decided = finding.verdict not in _OPEN
        found.decided += is_decided
        past = history.before(claim, evidence.scale, _runs_by_row(finding, reports), names)
        if past is None:
            continue
        told = changes(past, claim, evidence.scale)
        if past.former:
            told.append(_recipe(past.former))
            found.on_later_recipe += is_decided
        if past.later_seeds:
            first = {job: each for job, each in reports.items() if job.seed not in past.later_seeds}
            before = judge(claim, tables[claim.table], evidence.scale, first)
            told.append(f"seeds {past.later_seeds} added ({before.label} without them)")
            own = tables[claim.table].seeds[evidence.scale]
            if before.verdict is Verdict.UNDECIDED and is_decided and {*past.later_seeds} <= {*own}:
                found.enlarged.append(claim.id)
        if told:
            then = NOTHING
            if past.claim is not None:
                then = _verdict(past.claim, tables, evidence.scale, reports)
            found.changed.append([f"`{claim.id}`", past.date, "; ".join(told), then, finding.label])
        for each in past.others:
            then = _verdict(each, tables, evidence.scale, evidence.reports.get(each.table, {}))
            found.gone[each.id] = (
                f'No longer there: `{each.id}`, "{each.claim}" It would be {then}.'
            )
    return found


def _runs_by_row(finding: Finding, reports: Reports) -> dict[str, dict[str, int]]:
    """Row -> name -> seed of the runs that a finding rests on."""
    rows: dict[str, dict[str, int]] = {}
    for job, report in reports.items():
        if report["run"] in finding.runs:
            rows.setdefault(job.row, {})[report["run"]] = job.seed
    return rows


def _recipe(former: Former) -> str:
    since = f" since {former.since}" if former.since else ", not committed yet"
    return f"recipe{since} (before: {former.stated})"


def _verdict(claim: Claim, tables: Mapping[str, Table], scale: str, reports: Reports) -> str:
    """The verdict on a claim of any age."""
    if claim.table in tables:
        numbers = TableNumbers(tables[claim.table], {})
        rows = {row for condition in claim.conditions for row in condition.weights}
        metrics = {name for c in claim.conditions for name in (c.metric, c.minus) if name}
        if rows <= numbers.rows.keys() and {*metrics, *claim.floor} <= numbers.metrics.keys():
            return judge(claim, tables[claim.table], scale, reports).label
    return "about rows or metrics that the table no longer has"
