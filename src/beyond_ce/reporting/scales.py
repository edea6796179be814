"""What a table has at some scales only: rows, metrics, another experiment."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from beyond_ce.reporting.tables import Part, Row, Table


@dataclass(kw_only=True)
class Scaled:
    """A row, a metric, or a further experiment.

    Attributes:
        only: the scales at which it exists; null for all. Unlike a row's `scales`, it leaves no
            empty line at the others.
    """

    only: list[str] | None = None


@dataclass(kw_only=True)
class ScaledRow(Scaled):
    """A row.

    Attributes:
        variant_at: scale -> the variant that takes the place of `variant` there.
    """

    variant_at: dict[str, str] = field(default_factory=dict)


@dataclass(kw_only=True)
class ScaledPart(Scaled):
    """An experiment with its metrics.

    Attributes:
        experiment_at: scale -> the experiment that takes the place of `experiment` there.
    """

    experiment_at: dict[str, str] = field(default_factory=dict)


AnyPart = TypeVar("AnyPart", bound="Part")
AnyScaled = TypeVar("AnyScaled", bound=Scaled)


def table_at(table: Table, scale: str) -> Table:
    """The table without what only other scales have."""
    table = variants_at(table, scale)
    also = [_part_at(part, scale) for part in _here(table.also, scale)]
    return with_rows(replace(_part_at(table, scale), also=also), _here(table.rows, scale))


def variants_at(table: Table, scale: str) -> Table:
    """The table with all its rows, each of which reads the variant that it has at this scale."""
    rows = [replace(row, variant=row.variant_at.get(scale, row.variant)) for row in table.rows]
    return replace(table, rows=rows)


def with_rows(table: Table, rows: list[Row]) -> Table:
    """The table with only these rows, and the contrasts between them."""
    labels = {row.label for row in rows}
    contrasts = [contrast for contrast in table.contrasts if labels.issuperset(contrast.weights)]
    return replace(table, rows=rows, contrasts=contrasts)


def runs_at(row: Row, scale: str) -> bool:
    """Whether a row is run at a scale; otherwise it only shows the paper's numbers."""
    return scale in (row.scales or [scale])


def _part_at(part: AnyPart, scale: str) -> AnyPart:
    return replace(
        part,
        experiment=part.experiment_at.get(scale, part.experiment),
        columns=_here(part.columns, scale),
        checks=_here(part.checks, scale),
    )


def _here(items: Iterable[AnyScaled], scale: str) -> list[AnyScaled]:
    return [item for item in items if scale in (item.only or [scale])]
