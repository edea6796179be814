"""What git knows of a claim's past: how it was written and judged, and on which reports."""

from __future__ import annotations

import csv
import io
import math
import re
import subprocess
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from beyond_ce.reporting.claims import FLOOR, Claim, Condition
from beyond_ce.reporting.markdown import NOTHING

LEDGER = "results/claims.md"


class Moment(NamedTuple):
    """A commit, sorted by its place in the history; the date has the time."""

    place: float
    commit: str
    date: str


_NOT_COMMITTED = Moment(math.inf, "", "")


@dataclass(frozen=True)
class Former:
    """The last verdict on runs of another recipe than today's.

    Attributes:
        since: date of the first report of today's recipe; None if it is not committed.
        stated: the verdict and the effect, as the ledger had them.
    """

    since: str | None
    stated: str


@dataclass(frozen=True)
class Past:
    """The state of things when the first report that a claim was judged on was committed.

    Attributes:
        date: of that commit, with the time.
        claim: the claim as it stood then; None if it was not written yet.
        others: claims on the same table that stood then and exist no more.
        later_seeds: seeds of which all of today's reports were committed after the first of these.
        former: the verdict on the last recipe before today's; None if it has not changed.
    """

    date: str
    claim: Claim | None
    others: list[Claim] = field(default_factory=list)
    later_seeds: list[int] = field(default_factory=list)
    former: Former | None = None


class History:
    """Claims, reports, tables and ledgers as they stood in the git history of a checkout.

    A report's first commit is looked for wherever reports have been kept: in `results/runs` and in
    `results/reports`. A run's name comes from what defines it, so it is the same in both, and
    another one once the recipe is another.

    Args:
        root: the checkout, with conf and results below it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._claims = cache(self._read_claims)
        self._stated = cache(self._read_ledger)

    @property
    def unknown(self) -> str | None:
        """Why nothing can be known; None in a full checkout."""
        top = self._git("rev-parse", "--show-toplevel")
        if top is None or Path(top.strip()).resolve() != self.root.resolve():
            return "this is not a git checkout"
        if (self._git("rev-parse", "--is-shallow-repository") or "").strip() != "false":
            return "this is a shallow clone, without the history"
        return None

    def before(
        self,
        claim: Claim,
        scale: str,
        runs: Mapping[str, Mapping[str, int]],
        names: Collection[str],
    ) -> Past | None:
        """The state when the first report on the claim was committed; None if none of them is.

        Args:
            runs: row -> name -> seed of the runs that the claim rests on today.
            names: ids of the claims that exist today.
        """
        seeds = {run: seed for of_row in runs.values() for run, seed in of_row.items()}
        added = {run: self._first.get(run, _NOT_COMMITTED) for run in seeds}
        start = min(added.values(), default=_NOT_COMMITTED)
        early = {seeds[run] for run, moment in added.items() if moment == start}
        later = sorted(set(seeds.values()) - early)
        starts = {row: min(added[run] for run in of_row) for row, of_row in runs.items()}
        first, former = self._before_today(claim, scale, starts) or (start, None)
        if first == _NOT_COMMITTED:
            return None
        then = self._claims(first.commit)
        others = [
            each for each in then.values() if each.table == claim.table and each.id not in names
        ]
        return Past(first.date, then.get(claim.id), others, later, former)

    def _before_today(
        self, claim: Claim, scale: str, starts: Mapping[str, Moment]
    ) -> tuple[Moment, Former] | None:
        """The first report on any recipe, and the last verdict that rests on another than today's.

        That is one from before the first of today's reports on a row that the claim had then. A
        claim that had other rows was judged on another recipe if all of today's came later.

        Args:
            starts: row -> first commit of a report of today's recipe.
        """
        for moment in reversed(self._ledgers):
            stated = self._stated(moment.commit).get((scale, claim.id))
            late = {row for row, start in starts.items() if start > moment}
            if stated is None or not late:
                continue
            then = self._claims(moment.commit).get(claim.id, claim)
            replaced = late & {row for each in then.conditions for row in each.weights}
            if replaced or late == starts.keys():
                since = min(starts[row] for row in replaced or late)
                former = Former(None if since is _NOT_COMMITTED else since.date, stated)
                return self._first_numbers(then, scale, moment), former
        return None

    def _first_numbers(self, claim: Claim, scale: str, last: Moment) -> Moment:
        """The first commit in which the claim's table had one of its numbers; `last` at the latest.

        By the table and not by its reports, which do not say what they were for.
        """
        terms = {(row, each.metric) for each in claim.conditions for row in each.weights}
        path = f"results/tables/{scale}/{claim.table}.csv"
        for moment in self._committed.get(path, []):
            lines = csv.DictReader(io.StringIO(self._git("show", f"{moment.commit}:{path}") or ""))
            if any((x.get("row"), x.get("metric")) in terms and x.get("n_seeds") for x in lines):
                return min(moment, last)
        return last

    @property
    def _ledgers(self) -> list[Moment]:
        return self._committed.get(LEDGER, [])

    @cached_property
    def _first(self) -> dict[str, Moment]:
        """Run -> first commit of its report."""
        found: dict[str, Moment] = {}
        for path, moments in self._committed.items():
            if path.endswith("/report.json"):
                run = path.split("/")[-2]
                found[run] = min(moments[0], found.get(run, _NOT_COMMITTED))
        return found

    @cached_property
    def _committed(self) -> dict[str, list[Moment]]:
        """Path of a report, table or ledger -> the commits that wrote it, first to last."""
        reports = [f":(glob)results/{folder}/*/report.json" for folder in ("runs", "reports")]
        log = self._git(
            *("log", "--reverse", "--date-order", "--diff-filter=AM", "--name-only"),
            *("--no-renames", "--date=format:%Y-%m-%d %H:%M", "--format=commit %H %ad", "--"),
            *(*reports, ":(glob)results/tables/*/*.csv", LEDGER),
        )
        found: dict[str, list[Moment]] = {}
        moment = _NOT_COMMITTED
        for place, line in enumerate((log or "").splitlines()):
            if line.startswith("commit "):
                _, commit, date = line.split(" ", 2)
                moment = Moment(place, commit, date)
            elif line:
                found.setdefault(line, []).append(moment)
        return found

    def _read_claims(self, commit: str) -> Mapping[str, Claim]:
        listing = self._git("ls-tree", "-r", "--name-only", commit, "--", "conf/claims") or ""
        claims = {}
        for path in listing.split():
            for fields in (self._read_yaml(commit, path) or {}).get("claims", ()):
                claims[fields["id"]] = _claim(fields)
        return claims

    def _read_ledger(self, commit: str) -> Mapping[tuple[str, str], str]:
        return _verdicts(self._git("show", f"{commit}:{LEDGER}") or "")

    def _read_yaml(self, commit: str, path: str) -> dict[str, Any] | None:
        text = self._git("show", f"{commit}:{path}")
        return None if text is None else yaml.safe_load(text)

    def _git(self, *arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", *arguments],
                cwd=self.root,
                capture_output=True,
                encoding="utf-8",
                check=True,
            )
        except (OSError, subprocess.CalledProcessError):
            return None
        return done.stdout


def _claim(fields: Mapping[str, Any]) -> Claim:
    """A claim from a file of any age: what is judged, without fields that are no more."""
    conditions = [
        Condition(each["metric"], each["weights"], each.get("minus"), each.get("margin"))
        for each in fields["conditions"]
    ]
    untestable = {  # once a sentence without its kind
        scale: reason if isinstance(reason, dict) else {"as it said": reason}
        for scale, reason in fields.get("untestable", {}).items()
    }
    return Claim(
        fields["id"],
        fields["claim"],
        fields["source"],
        fields["kind"],
        fields["table"],
        conditions,
        untestable=untestable,
        floor=fields.get("floor", {}),
    )


def _verdicts(page: str) -> dict[tuple[str, str], str]:
    """(scale, claim) -> verdict and effect on a ledger of any age, where there was one to see.

    That is an effect, or results at the floor. Lines that read otherwise say nothing.
    """
    found = {}
    scale, header = "", list[str]()
    for line in page.splitlines():
        if line.startswith("## "):
            scale = line.removeprefix("## Scale ").strip()
        cells = [cell.strip(" *") for cell in line.split("|")[1:-1]]
        header = header if header and cells else cells
        told = dict(zip(header, cells, strict=False))
        name = re.match(r"`([^`]+)`: ", told.get("claim", ""))
        verdict, effect = told.get("verdict", ""), told.get("effect", NOTHING)
        if name and (effect != NOTHING or FLOOR in verdict):
            found[scale, name[1]] = verdict if effect == NOTHING else f"{verdict}, {effect}"
    return found


def changes(then: Past, claim: Claim, scale: str) -> list[str]:
    """What about a claim is not as it was then, in a word or two each; empty if nothing is."""
    old = then.claim
    if old is None:
        return ["written afterwards"]
    contrasts, margins = (
        [
            [tuple(getattr(each, name) for name in names) for each in c.conditions]
            for c in (old, claim)
        ]
        for names in (("metric", "weights", "minus"), ("margin",))
    )
    differs = {
        "wording": old.claim != claim.claim,
        "kind": (old.kind, old.table) != (claim.kind, claim.table),
        "condition": contrasts[0] != contrasts[1],
        "margin": contrasts[0] == contrasts[1] and margins[0] != margins[1],
        "where it is testable": (scale in old.untestable) != (scale in claim.untestable)
        or old.floor != claim.floor,
    }
    return [name for name, differ in differs.items() if differ]
