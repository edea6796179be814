"""What a table has at some scales only: rows, metrics, another experiment."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from beyond_ce.reporting.tables import Part, Table


@dataclass(kw_only=True)
class Scaled:
    """A row or a metric.

    Attributes:
        only: the scales at which it exists; null for all. Unlike a row's `scales`, it leaves no
            empty line at the others.
    """

    only: list[str] | None = None


@dataclass(kw_only=True)
class ScaledPart:
    """An experiment with its metrics.

    Attributes:
        experiment_at: scale -> the experiment that takes the place of `experiment` there.
    """

    experiment_at: dict[str, str] = field(default_factory=dict)


AnyPart = TypeVar("AnyPart", bound="Part")
AnyScaled = TypeVar("AnyScaled", bound=Scaled)


def table_at(table: Table, scale: str) -> Table:
    """The table without what only other scales have."""
    also = [_part_at(part, scale) for part in table.also]
    return replace(_part_at(table, scale), rows=_here(table.rows, scale), also=also)


def _part_at(part: AnyPart, scale: str) -> AnyPart:
    return replace(
        part,
        experiment=part.experiment_at.get(scale, part.experiment),
        columns=_here(part.columns, scale),
        checks=_here(part.checks, scale),
    )


def _here(items: Iterable[AnyScaled], scale: str) -> list[AnyScaled]:
    return [item for item in items if scale in (item.only or [scale])]
