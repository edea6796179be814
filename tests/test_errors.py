from __future__ import annotations

from beyond_ce.errors import one_line


def test_the_text_of_an_error_on_one_line() -> None:
    assert one_line(ValueError("no such\n  key:\t'a'\n")) == "no such key: 'a'"
    assert one_line(ValueError()) == ""
