"""The claims in conf/claims, and those that are refused."""

import functools
import math
from pathlib import Path

import pytest

from beyond_ce.errors import UsageError
from beyond_ce.reporting.claims import load_claims
from beyond_ce.reporting.paper import PAPER_DIR
from beyond_ce.reporting.tables import Table, load_table
from beyond_ce.reporting.verdicts import judge

CONF = PAPER_DIR.parents[1] / "conf"
CLAIMS = CONF / "claims" / "ntl.yaml"
MTP_CLAIMS = CONF / "claims" / "mtp.yaml"


@functools.cache
def real_table(table_id: str) -> Table:
    return load_table(CONF / "table" / f"{table_id}.yaml")


@pytest.mark.parametrize(("path", "least"), [(CLAIMS, 18), (MTP_CLAIMS, 15)])
def test_every_claim_names_what_the_tables_have(path, least):
    claims = load_claims(path, real_table)
    assert len(claims) >= least
    assert {each.kind for each in claims} == {"better", "harmless", "equivalent"}


@pytest.mark.parametrize(("path", "least"), [(CLAIMS, 41), (MTP_CLAIMS, 24)])
def test_the_papers_own_numbers_support_its_claims(path, least):
    known = 0
    for each in load_claims(path, real_table):
        for effect in judge(each, real_table(each.table), "cpu", {}).effects:
            if not math.isnan(effect.paper):
                known += 1
                assert effect.paper > 1e-9, (each.id, effect.condition)
    assert known >= least


@pytest.mark.parametrize("path", [CLAIMS, MTP_CLAIMS])
def test_every_claim_says_what_would_be_no_effect_of_the_papers_size(path):
    """Without a number of the paper or a margin, no number of seeds could decide it."""
    for each in load_claims(path, real_table):
        for effect in judge(each, real_table(each.table), "cpu", {}).effects:
            # The two claims about a threshold of 7B's are judged where they are made.
            assert effect.margin > 0, each.id


def test_a_claim_about_large_models_is_judged_by_large_models():
    claims = {each.id: each for each in load_claims(MTP_CLAIMS, real_table)}
    for name in ("speculation-three-times", "bytes-six-times", "architectures-next-token"):
        assert {scale: set(why) for scale, why in claims[name].untestable.items()} == {
            "cpu": {"size"},
            "gpu": {"size"},
        }


GOOD = """\
claims:
  - id: a
    claim: A sentence.
    source: S
    kind: equivalent
    table: ntl-2
    margin_is: a reason
    conditions: [{metric: interpolate/mae, margin: 0.1, weights: {NTL-WAS λ=0.3: 1, CE: -1}}]
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("table: ntl-2", "table: ntl-99", "claim 'a': table 'ntl-99' is not defined"),
        ("CE: -1", "ce: -1", "claim 'a': table ntl-2 runs no row 'ce'"),
        ("interpolate/mae", "interpolate/mea", "has no metric 'interpolate/mea'"),
        ("margin: 0.1", "minus: test/mae, margin: 0.1", "has no metric 'test/mae'"),
        ("interpolate/mae", "interpolate/invalid", "which way interpolate/invalid is better"),
        ("kind: equivalent", "kind: equal", "kind 'equal': choose one of better, harmless"),
        ("margin: 0.1, ", "", "equivalent claims need a margin in every condition"),
        ("margin: 0.1, ", "margin: 0.0, ", "a margin must be above zero"),
        ("    margin_is: a reason\n", "", "a margin needs its reason, margin_is"),
        ("margin_is: a", "untestable: {cpu: {age: x}}\n    margin_is: a", "size or floor: the rea"),
        ("margin_is: a", "untestable: {huge: {size: x}}\n    margin_is: a", "size or floor: the r"),
        ("margin_is: a", "floor: {test/x: 1}\n    floor_is: x\n    margin_is: a", "way test/x is"),
        ("margin_is: a", "floor: {interpolate/mae: 1}\n    margin_is: a", "a floor needs its"),
        ("claim: A", "klaim: A", "klaim"),
        ("conditions: [{", "conditions: []\n    x: [{", "x"),
    ],
)
def test_a_claim_that_cannot_be_tested_is_one_line(tmp_path: Path, old, new, message):
    path = tmp_path / "claims.yaml"
    path.write_text(GOOD)
    assert load_claims(path, real_table)[0].conditions[0].margin == 0.1
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(UsageError, match=message) as error:
        load_claims(path, real_table)
    assert "\n" not in str(error.value)


def test_two_claims_of_one_name_are_refused(tmp_path: Path):
    path = tmp_path / "claims.yaml"
    path.write_text(GOOD + GOOD.removeprefix("claims:\n"))
    with pytest.raises(UsageError, match="two claims are called 'a'"):
        load_claims(path, real_table)
