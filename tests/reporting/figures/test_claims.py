import pytest

from beyond_ce.reporting.claims import Claim, Condition
from beyond_ce.reporting.figures import claims_figure
from beyond_ce.reporting.verdicts import judge


def claim(name, weights, metric="test/accuracy"):
    conditions = [Condition(metric, weights)]
    return Claim(name, "A sentence.", "Paper, table 0", "better", "toy", conditions)


def test_every_claim_is_a_line_in_its_own_unit(table, reports, tmp_path):
    better, worse = {"NTL λ=0.5": 1.0, "CE": -1.0}, {"NTL λ=0.5": -1.0, "CE": 1.0}
    claims = [claim("wins", better), claim("loses", worse), claim("open", better, "test/mae")]
    findings = [judge(each, table, "cpu", reports) for each in claims]
    findings.append(judge(claim("unrun", better), table, "cpu", {}))
    figure = claims_figure(findings, {"toy": table})
    figure.savefig(tmp_path / "claims.png")
    (ax,) = figure.axes
    names = [tick.get_text() for tick in ax.get_yticklabels()]
    assert names == ["wins  (toy)", "loses  (toy)", "open  (toy)", "unrun  (toy)"]
    assert [text.get_text()[:3] for text in ax.texts] == ["+0.", "-0.", "+1.", "not"]
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert shown == ["reproduced (1)", "undecided (1)", "contradicted (1)", "paper"]
    # The axis at zero, then interval, mean and paper of each claim.
    interval, mean, paper = ax.lines[1:4]
    ours = findings[0].weakest.ours
    assert interval.get_xdata() == pytest.approx([ours.low / ours.high, 1])
    assert mean.get_xdata() == pytest.approx([ours.mean / ours.high])
    assert paper.get_xdata() == pytest.approx([0.1 / ours.high])
    assert all(abs(x) <= 1 for line in ax.lines[1:] for x in line.get_xdata() if x == x)
