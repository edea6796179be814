"""What the settings of a class may be, stated where the class takes them.

A constructor says with `takes` what each of its settings may be, one line per setting:

    @takes("trainer", max_steps=COUNT, gradient_clip=number(0))
    def __init__(self, max_steps: int, gradient_clip: float) -> None:

It then refuses everything else, and `check_values` refuses it in a config, before anything is
built. A setting is never changed: 16.0 is no whole number, and `true` is no number. NaN and
infinity are never what one wants.

A rule also says which of its values are the same, by `in_one_form` (1 and 1.0, where any number is
taken), and `SOURCE` says that a run reads what the setting names.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import PurePath
from typing import Any, TypeVar, cast

from beyond_ce.errors import UsageError

Rule = Callable[[Any], str | None]
"""Gives None for a value that fits, and else what to give instead, as "give at least 1"; for a
mapping, of which key: "n=0: give at least 1"."""

Function = TypeVar("Function", bound=Callable[..., Any])

_SHOWN = 60  # characters of a refused value
_MOST = 2**31 - 1
_RULES = "settings_rules"  # the attribute of a decorated function
_FORM = "one_form"  # of a rule: maps equal values to one
_READ = "is_read"  # of a rule: whether a value names something that a run reads


def whole(low: int = 0, high: int = _MOST) -> Rule:
    """A whole number from `low` to `high`."""

    def rule(value: Any) -> str | None:
        if not _is_a(Integral, value):
            near = isinstance(value, float) and value.is_integer() and low <= value <= high
            return f"give a whole number, as {int(value) if near else max(low, 1)}"
        if value < low:
            return f"give at least {low}"
        return f"give at most {high}" if value > high else None

    return rule


def number(
    low: float = -math.inf,
    high: float = math.inf,
    *,
    above: float = -math.inf,
    below: float = math.inf,
) -> Rule:
    """A finite number: at least `low`, at most `high`, greater than `above`, less than `below`."""

    def rule(value: Any) -> str | None:
        if not _is_a(Real, value) or not _is_finite(value):
            return "give a finite number"
        if value > above and low <= value <= high and value < below:
            return None
        if above == 0 and below == 1:
            return "give a number between 0 and 1"
        if above == 0 and value <= 0:
            return "give a positive number"
        least, most = max(low, above), min(high, below)
        if value <= least:
            return f"give at least {low:g}" if low > above else f"give more than {above:g}"
        return f"give at most {high:g}" if high < below else f"give less than {most:g}"

    return with_form(rule, _as_float)


def with_form(rule: Rule, form: Callable[[Any], Any]) -> Rule:
    """The rule, with what `in_one_form` does to its values."""
    setattr(rule, _FORM, form)
    return rule


def in_one_form(rule: Rule, value: Any) -> Any:
    """The value as all that equal it are written: 1.0 for 1, where the rule takes any number.

    What a rule refuses, and what it says nothing about, stays as it is.
    """
    form: Callable[[Any], Any] | None = getattr(rule, _FORM, None)
    return value if form is None else form(value)


def _as_float(value: Any) -> Any:
    # Adding zero makes a zero of -0.0, which equals it.
    return float(value) + 0.0 if _is_a(Real, value) and _is_finite(value) else value


def _is_a(kind: type, value: Any) -> bool:
    """Whether it is a number of this kind; true and false are none."""
    return isinstance(value, kind) and not isinstance(value, bool)


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float can hold
        return False


def one_of(*choices: str) -> Rule:
    """One of these texts."""
    options = " or ".join(choices)
    return lambda value: None if isinstance(value, str) and value in choices else f"give {options}"


def optional(rule: Rule) -> Rule:
    """What `rule` says, or null."""

    def relaxed(value: Any) -> str | None:
        advice = None if value is None else rule(value)
        return None if advice is None else f"{advice}, or null"

    setattr(relaxed, _READ, is_read(rule))
    return with_form(relaxed, lambda value: in_one_form(rule, value))


def each(rule: Rule, count: int | None = None) -> Rule:
    """A list of values that `rule` says; with `count`, of so many, else of at least one."""
    length = "one" if count is None else str(count)

    def listed(value: Any) -> str | None:
        if not isinstance(value, Sequence) or isinstance(value, str):
            return "give a list, as [1,2]"
        if not value or len(value) != (count or len(value)):
            return f"give a list of {'at least ' if count is None else ''}{length}"
        advice = next((advice for v in value if (advice := rule(v)) is not None), None)
        return None if advice is None else f"{advice} for each"

    def form(value: Any) -> Any:
        return [in_one_form(rule, v) for v in value] if isinstance(value, list) else value

    return with_form(listed, form)


def span(low: int, high: int) -> Rule:
    """The minimum and the maximum of something, as a list of two whole numbers in a range."""
    pair = each(whole(low, high), 2)

    def rule(value: Any) -> str | None:
        if pair(value) is None and value[0] <= value[1]:
            return None
        return f"give the minimum and the maximum, both from {low} to {high}, as [1,2]"

    return rule


def FLAG(value: Any) -> str | None:
    """True or false."""
    return None if isinstance(value, bool) else "give true or false"


def TEXT(value: Any) -> str | None:
    """A text or a path that is not empty."""
    full = isinstance(value, PurePath) or (isinstance(value, str) and value.strip())
    return None if full else "give a text"


def SOURCE(value: Any) -> str | None:
    """A file, a folder or a name on the hub that a run reads: its content counts as the run's."""
    return TEXT(value)


setattr(SOURCE, _READ, True)


def is_read(rule: Rule) -> bool:
    """Whether the rule is `SOURCE`, or null besides."""
    return getattr(rule, _READ, False)


def PATH(value: Any) -> str | None:
    """A path; an empty text is the current folder."""
    return None if isinstance(value, str | PurePath) else "give a path"


COUNT = whole(1)
NO_LIMIT = optional(COUNT)
"""A limit of at least 1; null for none."""
SIZE = whole(1, 2**20)
"""The size of one of a model's dimensions."""
LAYERS_MOST = 1000
LAYERS = whole(1, LAYERS_MOST)
SEED = whole(0, 2**63 - 1)
SHARE = number(above=0, below=1)
DROPOUT = number(0, below=1)
WEIGHT = number(0, 1e6)


def takes(group: str, *, at_call: bool = True, **rules: Rule) -> Callable[[Function], Function]:
    """Decorates a constructor, or a function that a config names, with what its settings may be.

    Args:
        group: config group to name in messages, such as "trainer"; "" for arguments of a function.
        at_call: False only declares the rules, for functions that are called in every step.
        rules: by the name of the argument.
    """

    def decorate(function: Function) -> Function:
        arguments = inspect.signature(function)
        if unknown := rules.keys() - arguments.parameters.keys():
            raise TypeError(f"{function.__qualname__} has no arguments {sorted(unknown)}")

        @functools.wraps(function)
        def checked(*args: Any, **kwargs: Any) -> Any:
            try:
                given = arguments.bind(*args, **kwargs).arguments
            except TypeError:  # Python's own message, from the call below, names the function
                given = {}
            for name in rules.keys() & given.keys():
                check_value(f"{group}.{name}" if group else name, given[name], rules[name])
            return function(*args, **kwargs)

        decorated = checked if at_call else function
        setattr(decorated, _RULES, rules)
        return cast(Function, decorated)

    return decorate


def check_value(key: str, value: Any, rule: Rule) -> None:
    """Raises UsageError if `value` does not fit the rule."""
    if (advice := rule(value)) is None:
        return
    if isinstance(value, Mapping):  # the rule names the key in it that is wrong
        raise UsageError(f"{key}.{advice}")
    raise UsageError(f"{key}={shown(value)}: {advice}")


def shown(value: Any) -> str:
    """A value as one would write it in a config, cut off if it is long."""
    if value is None:
        return "null"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return " ".join(text.split())[:_SHOWN]


def check_values(target: Any, values: Mapping[str, Any], name: Callable[[str], str]) -> None:
    """Refuse settings that `target` does not take, and values that do not fit its rules.

    Args:
        target: a class, or a function.
        values: of a config, with keys for Hydra such as `_target_`.
        name: the key by which the user knows a setting.

    Raises:
        UsageError: for the first that is refused.
    """
    rules, known = declared(target)
    settings = [key for key in values if not (key.startswith("_") and key.endswith("_"))]
    for key in settings:
        if known is not None and key not in known:
            most = sorted(known & rules.keys()) or sorted(known)
            others = f"it takes {', '.join(most)}" if most else "it takes none"
            raise UsageError(f"{name(key)}: {target.__name__} has no such setting; {others}")
        if key in rules:
            check_value(name(key), values[key], rules[key])


def declared(target: Any) -> tuple[dict[str, Rule], set[str] | None]:
    """The rules and the names of all settings; None for the names if it takes any.

    A constructor that passes `**settings` on takes those of the class that it is based on, and a
    setting that a class passes on by name keeps the rule of its base.
    """
    functions = [target]
    if isinstance(target, type):
        functions = [vars(kind)["__init__"] for kind in target.__mro__ if "__init__" in vars(kind)]
        if functions[0] is object.__init__:
            return {}, set()
    rules: dict[str, Rule] = {}
    for function in functions:
        rules = {**getattr(function, _RULES, {}), **rules}
    names: set[str] = set()
    for function in functions:
        parameters = inspect.signature(function).parameters.values()
        named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        names |= {p.name for p in parameters if p.kind in named and p.name != "self"}
        if not any(p.kind == inspect.Parameter.VAR_KEYWORD for p in parameters):
            return rules, names
    return rules, None
