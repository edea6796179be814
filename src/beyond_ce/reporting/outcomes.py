"""The verdicts on the claims as a csv, and those that rest on one table in a few lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from beyond_ce.reporting.markdown import interval
from beyond_ce.reporting.tables import Table
from beyond_ce.reporting.verdicts import Evidence, spec_of

FILE = "claims.csv"


def verdicts(tables: Mapping[str, Table], evidence: Sequence[Evidence]) -> pd.DataFrame:
    """A line per scale and claim: its verdict, and the effect of the condition that makes it.

    Effects are in units of their metric, and above zero where they speak for the claim; of a claim
    that something is harmless or equivalent they are the distance inside the margin. `printed` is
    the effect with its 95% interval in the digits of its table.
    """
    lines = []
    for each in evidence:
        for finding in each.findings:
            claim, effect = finding.claim, finding.weakest
            lines.append(
                {
                    "scale": each.scale,
                    "claim": claim.id,
                    "sentence": claim.claim,
                    "source": claim.source,
                    "kind": claim.kind,
                    "table": claim.table,
                    "verdict": finding.verdict.value,
                    "label": finding.label,
                    "conditions": len(finding.effects),
                    "holding": finding.holding,
                    "metric": effect.condition.metric,
                    "effect": effect.ours.mean,
                    "ci_low": effect.ours.low,
                    "ci_high": effect.ours.high,
                    "n_seeds": effect.ours.n,
                    "detectable": effect.detectable,
                    "paper": effect.paper,
                    "printed": interval(effect.ours, spec_of(finding, tables)).strip("*"),
                }
            )
    return pd.DataFrame(lines)


def outcomes(results: Path, scale: str, table: str) -> str:
    """What became of the claims that a table tests, as markdown; empty if it tests none.

    Args:
        results: folder with the claims.csv of `make claims`.
    """
    if not (results / FILE).is_file():
        return "*The claims have not been judged yet: `make claims`.*"
    found = pd.read_csv(results / FILE)
    found = found[(found["scale"] == scale) & (found["table"] == table)]
    lines = []
    for each in found.to_dict("records"):
        line = f"- **{each['label']}**: {each['sentence']}"
        if each["n_seeds"]:
            line += f" {each['printed']} in {each['metric']}, {each['n_seeds']} seeds"
            if each["conditions"] > 1:
                line += f"; {each['holding']} of {each['conditions']} conditions hold"
        lines.append(line)
    if not lines:
        return ""
    head = "What became of the claims; an effect above zero speaks for one (`results/claims.md`):"
    return "\n".join([head, "", *lines])
