"""Programs that a model has written, beside their verdicts."""

from __future__ import annotations

import html
from collections import Counter

import pandas as pd

from beyond_ce.reporting.figures.style import BETTER, WORSE


def judged_samples(prompt: str, samples: pd.DataFrame) -> str:
    """A problem's samples as HTML: the prompt in grey, and each different program with how often it
    came, its verdict and the reason, the most frequent one first.

    Args:
        samples: of one problem, with the columns completion, verdict and reason, as `CodeSamples`
            predicts them.
    """
    cells = []
    columns = ["completion", "verdict", "reason"]
    keys = zip(*(samples[name].tolist() for name in columns), strict=True)
    for (text, verdict, reason), count in Counter(keys).most_common():
        color = BETTER if verdict == "passed" else WORSE
        why = f": {html.escape(reason)}" if reason else ""
        cells.append(
            '<div style="flex:1 1 16em;margin-right:1em">'
            f'<pre style="border-left:3px solid {color};padding-left:6px">{html.escape(text)}</pre>'
            f'<p style="color:{color}">{count} x {html.escape(verdict)}{why}</p></div>'
        )
    head = f'<pre style="color:#888">{html.escape(prompt)}</pre>'
    return f'{head}<div style="display:flex;flex-wrap:wrap">{"".join(cells)}</div>'
