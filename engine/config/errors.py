"""The error of a configuration: everything that is wrong with it, each in words of its keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class ConfigError(Exception):
    """Settings that cannot be used; problems: one text for each, with what was found and what to do."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__(self.text())

    def text(self) -> str:
        """One problem as it is, several as a list of lines.

        >>> print(ConfigError(["a is 1; expected 2", "b is 3; expected 4"]))
        2 settings cannot be used:
          a is 1; expected 2
          b is 3; expected 4
        """
        if len(self.problems) == 1:
            return self.problems[0]
        lines = (f"\n  {problem}" for problem in self.problems)
        return f"{len(self.problems)} settings cannot be used:{''.join(lines)}"


_KINDS = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "string": "text",
    "path": "a path",
    "list": "a list",
    "dict": "a table",
    "model": "a table",
}


def expected(error: Mapping[str, Any], from_variable: bool = False) -> str:
    """What pydantic's error asks for, in the words of a file.

    >>> expected({"type": "greater_than_equal", "ctx": {"ge": 1}, "msg": ""})
    'expected at least 1'
    """
    kind, about = str(error["type"]), error.get("ctx", {})
    if kind == "value_error":
        return str(error["msg"]).removeprefix("Value error, ")
    if kind == "literal_error":
        return f"expected one of {str(about['expected']).replace(' or ', ', ')}"
    limits = {"greater_than_equal": "at least", "greater_than": "above", "less_than_equal": "at most"}
    if kind in limits:
        return f"expected {limits[kind]} {next(iter(about.values())):g}"
    if kind == "string_pattern_mismatch":
        if "http" in about["pattern"]:
            return "expected an address such as http://registry:8081"
        return "expected a topic's name: letters, digits, dots, dashes and underscores"
    if kind == "string_too_short":
        return "expected text that is not empty"
    if kind == "string_too_long":
        return f"expected at most {about['max_length']} characters"
    if kind == "too_short":
        return "expected a list of at least one"
    if kind == "finite_number":
        return "expected a finite number"
    word = _KINDS.get(kind.partition("_")[0])
    if word is None:
        return f"expected another value ({error['msg']})"
    if word == "a list" and from_variable:
        return 'expected a list, as JSON such as ["a", "b"]'
    return f"expected {word}"


def shown(value: Any) -> str:
    """A value in an error, short.

    >>> shown("x" * 100)[-8:]
    'xxxxx...'
    """
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
