"""A table as a LaTeX `tabular` with booktabs rules, for a paper or a thesis."""

from __future__ import annotations

import pandas as pd

from beyond_ce.reporting.markdown import heading, plus_minus
from beyond_ce.reporting.numbers import cells
from beyond_ce.reporting.tables import Table

_ESCAPES = str.maketrans(
    {
        "&": r"\&",
        "%": r"\%",
        "#": r"\#",
        "_": r"\_",
        "$": r"\$",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "\\": r"\textbackslash{}",
        "λ": r"$\lambda$",
        "σ": r"$\sigma$",
        "²": r"$^2$",
        "±": r"$\pm$",
        "↑": r"$\uparrow$",
        "↓": r"$\downarrow$",
        "–": "--",
    }
)


def escape(text: str) -> str:
    """Escapes LaTeX's special characters and writes the symbols of our labels in math mode."""
    return text.translate(_ESCAPES)


def to_latex(table: Table, frame: pd.DataFrame) -> str:
    r"""The paper's layout as a `tabular` (needs \usepackage{booktabs}): one block per split.

    Every cell is our mean ± standard deviation; the paper's numbers stay in the csv and md.
    """
    numbers = cells(frame)
    sections = [(part, split) for part in table.parts for split in part.splits]
    arrows = {"higher": " ↑", "lower": " ↓", None: ""}
    blocks, rules, names, start = [], [], [], 2
    for part, split in sections:
        n = len(part.columns)
        blocks.append(rf"\multicolumn{{{n}}}{{c}}{{{escape(heading(part, split))}}}")
        rules.append(rf"\cmidrule(lr){{{start}-{start + n - 1}}}")
        names += [escape(column.name + arrows[column.better]) for column in part.columns]
        start += n
    lines = [
        rf"% {table.id}: {table.title}",
        rf"\begin{{tabular}}{{l{'r' * len(names)}}}",
        r"\toprule",
        f"& {' & '.join(blocks)} " + r"\\",
        " ".join(rules),
        f"& {' & '.join(names)} " + r"\\",
        r"\midrule",
    ]
    for row in table.rows:
        if row.overrides is None:
            continue
        texts = [escape(row.label)]
        for part, split in sections:
            for column in part.columns:
                ours = numbers[row.label, f"{split}/{column.metric}"].ours
                texts.append(escape(plus_minus(ours, column.format)))
        lines.append(" & ".join(texts) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    return "\n".join(lines) + "\n"
