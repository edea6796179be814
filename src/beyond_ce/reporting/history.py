"""What git knows about when a claim was written, and when the first report that it rests on."""

from __future__ import annotations

import subprocess
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import yaml

from beyond_ce.reporting.claims import Claim, Condition


@dataclass(frozen=True)
class Past:
    """The state of things when the first report that a claim rests on was committed.

    Attributes:
        date: of that commit, with the time.
        claim: the claim as it stood then; None if it was not written yet.
        others: claims on the same table that stood then and exist no more.
        later_seeds: seeds of which all reports were committed afterwards.
    """

    date: str
    claim: Claim | None
    others: list[Claim] = field(default_factory=list)
    later_seeds: list[int] = field(default_factory=list)


class History:
    """Claims and tables as they stood in the git history of a checkout.

    A report's first commit is looked for wherever reports have been kept: in `results/runs` and in
    `results/reports`. A run's name comes from what defines it, so it is the same in both.

    Args:
        root: the checkout, with conf and results below it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._yaml = cache(self._read_yaml)

    @property
    def unknown(self) -> str | None:
        """Why nothing can be known; None in a full checkout."""
        top = self._git("rev-parse", "--show-toplevel")
        if top is None or Path(top.strip()).resolve() != self.root.resolve():
            return "this is not a git checkout"
        if (self._git("rev-parse", "--is-shallow-repository") or "").strip() != "false":
            return "this is a shallow clone, without the history"
        return None

    def before(self, claim: Claim, runs: Mapping[str, int], names: Collection[str]) -> Past | None:
        """The state when the first of the claim's reports was committed; None if none of them is.

        Args:
            runs: name -> seed of the runs that the claim rests on.
            names: ids of the claims that exist today.
        """
        committed = [(self._first[run], seed) for run, seed in runs.items() if run in self._first]
        if not committed:
            return None
        (start, commit, date), _ = min(committed)
        then = self._claims(commit)
        others = [
            each for each in then.values() if each.table == claim.table and each.id not in names
        ]
        early = {seed for (place, _, _), seed in committed if place == start}
        later = sorted(set(runs.values()) - early)
        return Past(date, then.get(claim.id), others, later)

    @cached_property
    def _first(self) -> dict[str, tuple[int, str, str]]:
        """Run -> (place in the history, commit, date) of the first commit of its report."""
        paths = (f"results/{folder}/*/report.json" for folder in ("runs", "reports"))
        log = self._git(
            *("log", "--reverse", "--date-order", "--diff-filter=A", "--name-only"),
            *("--no-renames", "--date=format:%Y-%m-%d %H:%M", "--format=commit %H %ad", "--"),
            *(f":(glob){path}" for path in paths),
        )
        found: dict[str, tuple[int, str, str]] = {}
        commit, date, place = "", "", 0
        for line in (log or "").splitlines():
            if line.startswith("commit "):
                _, commit, date = line.split(" ", 2)
                place += 1
            elif line:
                found.setdefault(line.split("/")[-2], (place, commit, date))
        return found

    def _claims(self, commit: str) -> Mapping[str, Claim]:
        listing = self._git("ls-tree", "-r", "--name-only", commit, "--", "conf/claims") or ""
        claims = {}
        for path in listing.split():
            for fields in (self._yaml(commit, path) or {}).get("claims", ()):
                claims[fields["id"]] = _claim(fields)
        return claims

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
