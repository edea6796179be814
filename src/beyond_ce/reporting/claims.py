"""A paper's claims: what each says, and which contrasts of a table must hold for it.

They stand in `conf/claims/<paper>.yaml`; `verdicts` judges them on the reports behind our tables.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from beyond_ce.errors import UsageError, one_line
from beyond_ce.reporting.numbers import TableNumbers
from beyond_ce.reporting.tables import Table

KINDS = ("better", "harmless", "equivalent")
# Why a claim cannot be judged at a scale, as it says itself; a third reason is missing reports.
SIZE, FLOOR, MISSING = "size", "floor", "missing"


@dataclass
class Condition:
    """One contrast of a table's rows, formed within each seed.

    Attributes:
        metric: `<split>/<metric>` of the table.
        weights: row label -> weight; {a: 1, b: -1} is a minus b.
        minus: another metric of the table, whose contrast is subtracted.
        margin: in units of the metric. For claims that something is harmless or equivalent, what is
            still harmless or equivalent. For the others, what is no effect of the paper's size;
            null for half of the paper's effect.
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
        margin_is: the reason for the margins, where the conditions have their own.
        untestable: scale -> {size or floor: why its runs say nothing about the claim}.
        floor: metric -> what the best row of the claim must be better than for it to be judged.
        floor_is: the reason for the floor.
    """

    id: str
    claim: str
    source: str
    kind: str
    table: str
    conditions: list[Condition]
    margin_is: str | None = None
    untestable: dict[str, dict[str, str]] = field(default_factory=dict)
    floor: dict[str, float] = field(default_factory=dict)
    floor_is: str | None = None


@dataclass
class Claims:
    """The content of `conf/claims/<paper>.yaml`."""

    claims: list[Claim] = field(default_factory=list)


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
    margins = [condition.margin for condition in claim.conditions]
    problems = [] if claim.conditions else ["it has no conditions"]
    if claim.kind not in KINDS:
        problems.append(f"kind '{claim.kind}': choose one of {', '.join(KINDS)}")
    if needs_margin and None in margins:
        problems.append("harmless and equivalent claims need a margin in every condition")
    if any(margin is not None and not margin > 0 for margin in margins):
        problems.append("a margin must be above zero")
    if any(margin is not None for margin in margins) != (claim.margin_is is not None):
        problems.append("a margin needs its reason, margin_is, and the reason a margin")
    if bool(claim.floor) != (claim.floor_is is not None):
        problems.append("a floor needs its reason, floor_is, and the reason a floor")
    for scale, reasons in claim.untestable.items():
        if scale not in table.seeds or len(reasons) != 1 or not set(reasons) <= {SIZE, FLOOR}:
            problems.append(f"untestable: write {{<scale>: {{{SIZE} or {FLOOR}: the reason}}}}")
    for name in claim.floor:
        if name not in metrics or metrics[name][1].better is None:
            problems.append(f"floor: table {table.id} does not say which way {name} is better")
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
    return problems
