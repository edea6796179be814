"""Seeds beyond a table's own: the second stage of Stein's two-stage rule.

The table's seeds are the first stage. Their spread alone says how many seeds there have to be, and
makes the intervals of all; see `statistics.summarize`. Means play no part in it: seeds are added
for every claim that can be tested, whatever the first stage says about it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from omegaconf import DictConfig

from beyond_ce.reporting.claims import Claim
from beyond_ce.reporting.tables import Job, Reports, Table, read_reports
from beyond_ce.reporting.verdicts import judge
from beyond_ce.reproduction.claims import every_claim
from beyond_ce.reproduction.plan import AUTO, Plan
from beyond_ce.runs.start import at_seed

MAX_SEEDS = 20


def with_later_seeds(plan: Plan, only_done: bool = False) -> Plan:
    """The plan and the seeds after the table's own whose reports exist; seeds follow without a gap.

    A plan of seeds that the user asked for stays as it is.

    Args:
        only_done: only runs that ended here count, and no kept reports.
    """
    if not plan.own_seeds:
        return plan
    found: dict[Job, DictConfig] = {}
    seed = _next_seed(plan)
    while True:
        configs = _at_seeds(plan, {row: [seed] for row in _rows(plan)})
        candidates = replace(plan, configs=configs)
        reports = read_reports(list(candidates.configs), candidates.report_folder)
        known = [job for job in reports if not only_done or candidates.is_finished(job)]
        if not known:
            break
        found |= {job: candidates.configs[job] for job in known}
        seed += 1
    return _extended(plan, found) if found else plan


def second_stage(plan: Plan, max_seeds: int = MAX_SEEDS) -> tuple[Plan, list[str]]:
    """The plan with as many seeds as decide every claim about the table, and lines that say why.

    Args:
        plan: of the table's own seeds, all of which have been run.
        max_seeds: of a row, first stage included.
    """
    reports = read_reports(list(plan.configs), plan.report_folder)
    claims, tables = every_claim()  # the table as a whole, as a claim may name rows of other scales
    about = [claim for claim in claims if claim.table == plan.table.id]
    table = tables.get(plan.table.id, plan.table)
    needed, lines = seeds_needed(table, plan.scale, reports, about)
    if plan.table.measure and needed:  # rows are measured in turn, so all have the same repeats
        needed = dict.fromkeys(_rows(plan), max(needed.values()))
    first = len(plan.table.seeds[plan.scale])
    capped = {row: max(first, min(n, max_seeds)) for row, n in needed.items()}
    start = _next_seed(plan)
    later = {row: range(start, start + n - first) for row, n in capped.items()}
    told = [f"{plan.table.id}: {line}" for line in lines]
    if capped != needed:
        told.append(
            f"{plan.table.id}: stopping at {max_seeds} seeds a row, so that some claims may stay "
            "undecided; --max-seeds allows more"
        )
    return _extended(plan, _at_seeds(plan, later)), told


def seeds_needed(
    table: Table, scale: str, reports: Reports, claims: Sequence[Claim]
) -> tuple[dict[str, int], list[str]]:
    """Row -> seeds in all that decide every claim about it, and a line per claim.

    Args:
        reports: of the table's own seeds, the first stage, and no others.
    """
    needed: dict[str, int] = {}
    lines = []
    first = len(table.seeds[scale])
    for claim in claims:
        finding = judge(claim, table, scale, reports)
        of_claim = [each.seeds_to_decide for each in finding.effects]
        if finding.untestable is not None or not any(of_claim):
            why = (
                f"not testable here ({finding.untestable[1]})"
                if finding.untestable
                else ("its reports are missing, of one seed, or of an effect without a margin")
            )
            lines.append(f"{claim.id}: no further seeds, {why}")
            continue
        for effect, n in zip(finding.effects, of_claim, strict=True):
            for row in effect.condition.weights if n is not None else ():
                undefined = first - effect.difference.n  # seeds without this number
                needed[row] = max(needed.get(row, 0), (n or 0) + undefined)
        most = max(n for n in of_claim if n is not None)
        if claim.kind == "better":
            lines.append(f"{claim.id}: {most:,} seeds decide it")
        else:
            lines.append(f"{claim.id}: {most:,} seeds show it, if nothing differs")
    return needed, lines


def _rows(plan: Plan) -> list[str]:
    return list(dict.fromkeys(job.row for job in plan.configs))


def _next_seed(plan: Plan) -> int:
    return max(plan.table.seeds[plan.scale]) + 1


def _at_seeds(plan: Plan, seeds: Mapping[str, Sequence[int]]) -> dict[Job, DictConfig]:
    """The configs of other seeds: row -> seeds."""
    of_row = {(job.row, job.overrides): config for job, config in plan.configs.items()}
    configs = {}
    for (row, overrides), config in of_row.items():
        for seed in seeds.get(row, ()):
            job = Job(row, seed, overrides)
            configs[job] = at_seed(config, seed)
    return configs


def _extended(plan: Plan, later: Mapping[Job, DictConfig]) -> Plan:
    if not later:
        return plan
    configs = {**plan.configs, **later}
    most = max(Counter(job.row for job in configs).values())
    arguments = f"--seeds {AUTO}" if most == MAX_SEEDS else f"--seeds {AUTO} --max-seeds {most}"
    if 'ARGS="' in plan.command:
        command = plan.command.replace('ARGS="', f'ARGS="{arguments} ')
    else:
        command = f'{plan.command} ARGS="{arguments}"'
    return replace(plan, configs=configs, command=command)
