"""Stein's second stage: how many seeds, which, and that they stay with the table."""

import json
import math
from dataclasses import replace

import pytest
from omegaconf import OmegaConf
from scipy import stats

from beyond_ce.reporting.claims import Claim, Condition
from beyond_ce.reporting.tables import Column, Job, Row, Table
from beyond_ce.reproduction import stages
from beyond_ce.reproduction.claims import every_claim
from beyond_ce.reproduction.plan import Plan
from beyond_ce.reproduction.stages import second_stage, seeds_needed, with_later_seeds
from beyond_ce.reproduction.write import write

COMMAND = "make reproduce-table-toy SCALE=cpu"


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """A plan of the rows A, B and C with three seeds, and two claims that compare A and B."""
    table = Table(
        id="toy",
        title="T",
        source="S",
        experiment="toy",
        seeds={"cpu": [0, 1, 2]},
        splits=["test"],
        columns=[Column("accuracy", "Accuracy", better="higher")],
        rows=[Row(name, [f"loss={name}"]) for name in "ABC"],
    )
    configs = {
        Job(row, seed, (f"loss={row}",)): OmegaConf.create(
            {"results_dir": str(tmp_path / "results"), "loss": row, "seed": seed}
        )
        for row in "ABC"
        for seed in range(3)
    }
    monkeypatch.setattr(stages, "every_claim", lambda: ([claim(0.5), claim(1.0)], {}))
    return Plan(table, "cpu", configs, COMMAND, own_seeds=True)


def claim(margin, rows=("A", "B"), **changed):
    condition = Condition("test/accuracy", {rows[0]: 1.0, rows[1]: -1.0}, margin=margin)
    name = f"{'-'.join(rows)} {margin}"
    return Claim(name, "C", "S", "better", "toy", [condition], margin_is="a reason", **changed)


def report(plan, row, seed, accuracy):
    """Writes the report of a run as one that is over."""
    config = next(config for job, config in plan.configs.items() if job.row == row).copy()
    config.seed = seed
    job = Job(row, seed, (f"loss={row}",))
    folder = Plan(plan.table, "cpu", {job: config}, "").folder(job)
    folder.mkdir(parents=True, exist_ok=True)
    fields = {
        "run": folder.name,
        "metrics": {"test/accuracy": accuracy},
        "commit": None,
        "dirty": None,
        "hardware": {"cpu": "A CPU", "cores": 2, "gpu": None},
        "parameters": 1,
        "steps": 2,
        "samples": 3,
        "wall_clock_s": 6.0,
    }
    (folder / "report.json").write_text(json.dumps(fields))
    (folder / "DONE").touch()


def first_stage(plan, spread=0.1):
    for row, sign in (("A", 1), ("B", 0), ("C", 5)):
        for seed in range(3):
            report(plan, row, seed, sign * spread * (seed - 1))


def seeds_of(plan):
    return {row: sorted(j.seed for j in plan.configs if j.row == row) for row in "ABC"}


def test_as_many_seeds_as_the_narrowest_claim_needs_and_no_row_in_vain(plan):
    first_stage(plan)
    later, lines = second_stage(plan)
    n = math.ceil((stats.t.isf(0.025, 2) * 0.1 / 0.25) ** 2)  # a half width of half the margin
    assert n == 3
    assert later == plan
    assert lines == ["toy: A-B 0.5: 3 seeds decide it", "toy: A-B 1.0: 3 seeds decide it"]
    first_stage(plan, spread=0.2)
    later, lines = second_stage(plan)
    assert seeds_of(later) == {"A": list(range(12)), "B": list(range(12)), "C": [0, 1, 2]}
    assert {config.seed for config in later.configs.values()} == set(range(12))
    assert lines == ["toy: A-B 0.5: 12 seeds decide it", "toy: A-B 1.0: 3 seeds decide it"]
    assert later.command == f'{COMMAND} ARGS="--seeds auto --max-seeds 12"'


def test_what_the_means_say_changes_no_number_of_seeds(plan):
    first_stage(plan, spread=0.2)
    numbers = second_stage(plan)[1]
    for seed in range(3):
        report(plan, "A", seed, 100 + 0.2 * (seed - 1))  # now every claim is reproduced
    assert second_stage(plan)[1] == numbers


def test_the_number_of_seeds_is_capped_and_says_so(plan):
    first_stage(plan, spread=0.2)
    later, lines = second_stage(plan, max_seeds=5)
    assert seeds_of(later) == {"A": [0, 1, 2, 3, 4], "B": [0, 1, 2, 3, 4], "C": [0, 1, 2]}
    assert lines[-1] == (
        "toy: stopping at 5 seeds a row, so that some claims may stay undecided; --max-seeds "
        "allows more"
    )
    assert second_stage(plan, max_seeds=1)[0] == plan  # the first stage stays


def test_a_second_stage_that_exists_changes_no_number_of_seeds(plan):
    first_stage(plan, spread=0.2)
    before = second_stage(plan)
    for seed in (3, 4):
        report(plan, "A", seed, 50.0 * seed)
        report(plan, "B", seed, 0.0)
    assert second_stage(plan) == before


def test_what_cannot_be_judged_asks_for_no_seeds(plan, monkeypatch):
    first_stage(plan, spread=0.2)
    far = claim(0.5, floor={"test/accuracy": 9.0}, floor_is="a reason")
    none = claim(None)
    monkeypatch.setattr(stages, "every_claim", lambda: ([far, none], {}))
    later, lines = second_stage(plan)
    assert later == plan
    assert "not testable here (test/accuracy is 0.000 at best; the floor is 9.000)" in lines[0]
    assert "no further seeds, its reports are missing, of one seed, or" in lines[1]


def test_a_seed_without_a_number_is_made_up_for(plan):
    first_stage(plan, spread=0.2)
    for row in "AB":
        report(plan, row, 3, 0.1)
    table = replace(plan.table, seeds={"cpu": [0, 1, 2, 3]})
    longer = replace(plan, table=table, configs={**plan.configs, **fourth(plan)})
    complete = second_stage(longer)[0]
    report(plan, "A", 3, math.nan)
    undefined = second_stage(longer)[0]
    # Three seeds have the number now, as in the test above: twelve in all, and one that has none.
    assert len(seeds_of(undefined)["A"]) == 12 + 1
    assert len(seeds_of(complete)["A"]) != 12 + 1


def fourth(plan):
    jobs = {}
    for job, config in plan.configs.items():
        if job.seed == 0:
            jobs[replace(job, seed=3)] = OmegaConf.merge(config, {"seed": 3})
    return jobs


def test_harmless_and_equivalent_claims_get_seeds_but_no_promise(plan, monkeypatch):
    first_stage(plan, spread=0.2)
    same = replace(claim(0.5), kind="equivalent")
    monkeypatch.setattr(stages, "every_claim", lambda: ([same], {}))
    later, lines = second_stage(plan)
    assert len(seeds_of(later)["A"]) == 12
    assert lines == ["toy: A-B 0.5: 12 seeds show it, if nothing differs"]


@pytest.mark.parametrize("scale", ["smoke", "cpu", "gpu", "paper"])
def test_every_claim_can_be_asked_for_its_seeds_at_every_scale(scale):
    claims, tables = every_claim()
    for table in tables.values():
        if scale in table.seeds:
            about = [claim for claim in claims if claim.table == table.id]
            needed, lines = seeds_needed(table, scale, {}, about)
            assert needed == {}
            assert len(lines) == len(about)


def test_rows_that_are_measured_in_turn_have_the_same_repeats(plan):
    first_stage(plan, spread=0.2)
    plan.table.measure = {"cpu": {}}
    later, _ = second_stage(plan)
    assert set(map(len, seeds_of(later).values())) == {12}


def test_later_seeds_are_found_by_their_reports_and_asked_for_seeds_stay(plan):
    first_stage(plan)
    assert with_later_seeds(plan) == plan
    for row, seed in (("A", 3), ("B", 3), ("A", 4), ("A", 6)):
        report(plan, row, seed, 1.0)
    found = with_later_seeds(plan)
    assert seeds_of(found) == {"A": [0, 1, 2, 3, 4], "B": [0, 1, 2, 3], "C": [0, 1, 2]}
    asked = Plan(plan.table, "cpu", plan.configs, f'{COMMAND} ARGS="--seeds 0,1,2 a=1"')
    assert with_later_seeds(asked) == asked


def test_a_first_stage_that_was_run_again_lacks_nothing_of_a_second_that_was_not(plan):
    first_stage(plan)
    report(plan, "A", 3, 1.0)
    (job,) = set(with_later_seeds(plan).configs) - set(plan.configs)
    own = with_later_seeds(plan).folder(job)
    kept = plan.results / "reports" / own.name
    kept.parent.mkdir()
    own.rename(kept)
    assert "second stage" in write(plan)["md"].read_text()
    page = write(plan, only_done=True)["md"].read_text()
    assert "- Runs: 9, seeds [0, 1, 2];" in page and "missing" not in page.lower()
    assert f"`{COMMAND}`" in page
    kept.rename(own)  # run here after all
    assert "second stage" in write(plan, only_done=True)["md"].read_text()


def test_a_table_has_the_interval_of_both_stages(plan):
    first_stage(plan, spread=0.2)
    for seed, value in ((3, 0.1), (4, -0.1)):
        report(plan, "A", seed, value)
    paths = write(plan, only_done=True)
    (line,) = [x for x in paths["csv"].read_text().splitlines() if x.startswith("A,")]
    _, _, mean, _, low, high, n, _ = line.split(",")
    half = stats.t.isf(0.025, 2) * 0.2 / 5**0.5
    assert float(mean) == pytest.approx(0, abs=1e-6)
    assert (float(low), float(high)) == pytest.approx((-half, half), rel=1e-4)
    assert n == "5"
    page = paths["md"].read_text()
    assert "seeds [0, 1, 2] and, as a second stage of those rows that have them, [3, 4]" in page
    assert f'`{COMMAND} ARGS="--seeds auto --max-seeds 5"`' in page
