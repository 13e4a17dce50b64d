"""The examples in the docstrings of `streams` run and give what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import streams

MODULES = [module.name for module in pkgutil.iter_modules(streams.__path__, "streams.")]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0
