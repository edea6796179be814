"""Charts of the report: Vega-Lite or Vega, which the browser draws from a file beside the page."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from beyond_ce.reporting.figures.claims import VERDICT_STYLES
from beyond_ce.reporting.verdicts import Effect, Finding, Verdict

_SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"  # a name; nothing is loaded from there
_MARKERS = {"o": "circle", "D": "diamond", "s": "square", "X": "cross", "": "stroke"}
_FARTHEST = 3.0  # in units of the paper's effect; what lies beyond is drawn at the edge
_MOST_POINTS = 400  # of a curve
_TESTED, _ALL = "all that were tested", "all"
_ORDERS = ("verdict", "effect", "power", "paper", "table")
_WORDS = {"paper": "the paper's order", "power": "detectable effect"}


def javascript() -> str:
    """The libraries that draw the charts, in one file without further files."""
    import vl_convert

    # Its types do not know of the default, which makes vegaEmbed a global.
    bundle: Callable[..., str] = vl_convert.javascript_bundle
    return bundle()


def claim_line(finding: Finding, number: int, scale: str, url: str | None) -> dict[str, Any]:
    """What the chart shows of a claim: its weakest condition, in units of the paper's effect."""
    effect = finding.weakest
    unit = papers_unit(effect)
    smallest = effect.detectable
    values = {
        "effect": effect.ours.mean,
        "low": effect.ours.low,
        "high": effect.ours.high,
        "paper_effect": effect.paper if effect.paper > 0 else math.nan,
        "detectable": smallest,
    }
    scaled = {name: _clamped(value / unit) for name, value in values.items()}
    verdicts = list(Verdict)
    return {
        "claim": finding.claim.id if scale == "cpu" else f"{finding.claim.id} ({scale})",
        "says": finding.claim.claim,
        "paper": finding.claim.table.split("-")[0].upper(),
        "table": finding.claim.table,
        "scale": scale,
        "verdict": finding.verdict.value,
        "seeds": effect.ours.n,
        "metric": effect.condition.metric,
        "by_verdict": verdicts.index(finding.verdict) * 1000 + number,
        "by_effect": -scaled["effect"] if scaled["effect"] is not None else 99,
        "by_power": scaled["detectable"] if scaled["detectable"] is not None else 99,
        "by_paper": number,
        "by_table": number,
        "url": url,
        **scaled,
    }


def papers_unit(effect: Effect) -> float:
    """The paper's effect. Where it has none in that direction, twice the margin, so that one half
    is the margin in either case."""
    return effect.paper if effect.paper > 0 else 2 * effect.margin


def _clamped(value: float) -> float | None:
    if not math.isfinite(value):
        return None
    return max(-_FARTHEST, min(_FARTHEST, round(value, 4)))


def claims_chart(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A line per claim, with its interval; the reader chooses which claims, and their order.

    As Vega, which Vega-Lite becomes here: in the browser it would warn of a height that depends on
    the number of lines.
    """
    import vl_convert

    tables = {name: i for i, name in enumerate(sorted({line["table"] for line in lines}))}
    data = [{**line, "by_table": tables[line["table"]] * 1000 + line["by_table"]} for line in lines]
    colors = {verdict.value: color for verdict, (_, color) in VERDICT_STYLES.items()}
    shapes = {verdict.value: _MARKERS[marker] for verdict, (marker, _) in VERDICT_STYLES.items()}
    order = " : ".join(f"order === '{_word(name)}' ? datum.by_{name}" for name in _ORDERS)
    hidden = Verdict.NOT_TESTABLE.value
    y = {
        "field": "claim",
        "type": "nominal",
        "sort": {"field": "at", "op": "min"},
        "axis": {"title": None, "labelLimit": 330, "labelFontSize": 11, "grid": True},
    }
    color = {
        "field": "verdict",
        "type": "nominal",
        "scale": {"domain": list(colors), "range": list(colors.values())},
        "legend": None,
    }
    shape = {
        "field": "verdict",
        "type": "nominal",
        "scale": {"domain": list(shapes), "range": list(shapes.values())},
        "legend": None,
    }

    def x(field: str) -> dict[str, Any]:
        title = "effect, in units of the paper's: 0 is none, 1 is the paper's"
        axis = {"title": title, "values": [-3, -2, -1, 0, 1, 2, 3]}
        scale = {"domain": [-_FARTHEST, _FARTHEST]}
        return {"field": field, "type": "quantitative", "axis": axis, "scale": scale}

    tooltip = [
        {"field": name, "title": title}
        for name, title in (
            *(("says", "claim"), ("verdict", "verdict"), ("effect", "effect / paper's")),
            *(("low", "from"), ("high", "to"), ("detectable", "detectable / paper's")),
            *(("seeds", "seeds"), ("metric", "metric"), ("table", "table"), ("scale", "scale")),
        )
    ]
    spec = {
        "$schema": _SCHEMA,
        "description": "The effect of each claim with its 95% interval. The table below says the "
        "same in words.",
        "data": {"values": data},
        "width": "container",
        "height": {"step": 17},
        "params": [
            _choice("paper", "Paper", [_ALL, *sorted({line["paper"] for line in lines})]),
            _choice("verdict", "Verdict", [_TESTED, _ALL, *colors]),
            _choice("scale", "Scale", [*dict.fromkeys(line["scale"] for line in lines), _ALL]),
            _choice("order", "Order by", [_word(name) for name in _ORDERS]),
        ],
        "transform": [
            {"filter": f"paper === '{_ALL}' || datum.paper === paper"},
            {"filter": f"scale === '{_ALL}' || datum.scale === scale"},
            {
                "filter": f"verdict === '{_ALL}' || datum.verdict === verdict || "
                f"(verdict === '{_TESTED}' && datum.verdict !== '{hidden}')"
            },
            {"calculate": f"{order} : datum.by_paper", "as": "at"},
        ],
        "encoding": {"y": y, "tooltip": tooltip},
        "layer": [
            {
                "mark": {"type": "rule", "color": "#888", "strokeDash": [2, 3]},
                "encoding": {"x": {"datum": 0, "type": "quantitative"}, "y": None},
            },
            {
                "mark": {"type": "tick", "color": "#999", "thickness": 3, "size": 12},
                "encoding": {"x": x("detectable")},
            },
            {
                "mark": {"type": "rule", "strokeWidth": 2.5},
                "encoding": {"x": x("low"), "x2": {"field": "high"}, "color": color},
            },
            {
                "mark": {"type": "point", "shape": "diamond", "color": "#000", "size": 60},
                "encoding": {"x": x("paper_effect")},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 75, "opacity": 1},
                "encoding": {
                    "x": x("effect"),
                    "color": color,
                    "shape": shape,
                    "href": {"field": "url"},
                },
            },
        ],
        "config": {"view": {"stroke": None}, "axis": {"gridColor": "#eee"}},
    }
    return dict(vl_convert.vegalite_to_vega(spec))


def _word(name: str) -> str:
    return _WORDS.get(name, name).replace("'", "’")


def _choice(name: str, label: str, options: list[str]) -> dict[str, Any]:
    bind = {"input": "select", "options": options, "name": f"{label} "}
    return {"name": name, "value": options[0], "bind": bind}


def curves_chart(records: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The losses of a run over its steps; None without any."""
    values = [
        {"step": record["step"], "loss": record[name], "of": title}
        for name, title in (("train/loss", "training"), ("validation/loss", "validation"))
        for record in _thinned([r for r in records if math.isfinite(r.get(name, math.nan))])
    ]
    if not values:
        return None
    return {
        "$schema": _SCHEMA,
        "description": "Loss on training batches and on the validation split, over the steps.",
        "data": {"values": values},
        "width": "container",
        "height": 260,
        "mark": {"type": "line", "point": {"size": 12}},
        "encoding": {
            "x": {"field": "step", "type": "quantitative"},
            "y": {"field": "loss", "type": "quantitative", "scale": {"zero": False}},
            "color": {
                "field": "of",
                "type": "nominal",
                "scale": {"range": ["#0072B2", "#D55E00"]},
                "legend": {"title": None, "orient": "top"},
            },
            "strokeDash": {"field": "of", "type": "nominal"},
        },
    }


def _thinned(records: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """At most about `_MOST_POINTS` of them, the last included."""
    step = max(1, len(records) // _MOST_POINTS)
    return records[::-1][::step][::-1]
