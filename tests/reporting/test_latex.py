import re

from beyond_ce.reporting.latex import escape, to_latex
from beyond_ce.reporting.tables import tabulate


def test_environments_braces_and_columns_balance(table, reports):
    table.rows[0].label = "CE & 50% {of_it}"
    table.baseline, table.contrasts = None, []
    text = to_latex(table, tabulate(table, reports))
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 1
    bare = re.sub(r"\\[{}]", "", text)
    assert bare.count("{") == bare.count("}")
    assert text.count("$") % 2 == 0
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    for line in body[1:]:
        assert len(re.findall(r"(?<!\\)&", line)) == 2
    assert r"NTL $\lambda$=0.5 & 0.41 $\pm$ 0.10 & 2.8 $\pm$ 1.8 \\" in body
    assert text.isascii()
    assert "xVal" not in text


def test_every_special_character_is_escaped():
    assert escape(r"a_b & 50% $x {y} ~ ^ # \z") == (
        r"a\_b \& 50\% \$x \{y\} \textasciitilde{} \textasciicircum{} \# \textbackslash{}z"
    )
