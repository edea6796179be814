import re

from beyond_ce.reporting.latex import escape, to_latex
from beyond_ce.reporting.numbers import tabulate
from beyond_ce.reporting.tables import Column, Part


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


def test_a_further_experiment_is_a_block_with_its_own_columns(table, reports):
    columns = [Column("rmse", "RMSE", ".1f", "lower")]
    table.also = [Part(experiment="toy/jokes", name="Jokes", splits=["dev"], columns=columns)]
    lines = to_latex(table, tabulate(table, reports)).splitlines()
    assert r"& \multicolumn{2}{c}{Test} & \multicolumn{1}{c}{Jokes: dev} \\" in lines
    assert r"\cmidrule(lr){2-3} \cmidrule(lr){4-4}" in lines
    assert r"CE & 0.20 $\pm$ 0.10 & 4.0 $\pm$ 1.0 & -- \\" in lines
