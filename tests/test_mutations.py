"""A test fails where a rule of coming back is taken out: each one, one by one.

RESILIENT_CACHE_TEST_MUTATIONS=1 tries them all, which takes minutes; else it is only seen that the
table fits the package.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.code_edits import (
    argument,
    assigned,
    becomes,
    call_becomes,
    condition,
    ends_with,
    find,
    read_as,
    return_becomes,
    returns,
    skips,
    starts_with,
    without_call,
    without_statement,
    without_term,
    without_yields,
)
from tests.mutation_table import MUTATIONS, Mutation
from tests.mutations import code_of

ALL = os.environ.get("RESILIENT_CACHE_TEST_MUTATIONS") == "1"
ROOT = Path(__file__).parent.parent


def test_each_has_a_name_of_its_own() -> None:
    names = [mutation.name for mutation in MUTATIONS]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_the_table_fits_the_package(mutation: Mutation) -> None:
    """Where this fails a name has changed, or a rule was rewritten: follow it in the table."""
    for module, tree in code_of(mutation).items():
        compile(tree, module, "exec")


@pytest.mark.parametrize("by", sorted({mutation.by for mutation in MUTATIONS} - {""}))
def test_the_tests_that_the_table_names_are_there(by):
    file, _, name = by.partition("::")
    assert isinstance(find(ast.parse((ROOT / file).read_text()), name), ast.FunctionDef)


@pytest.mark.skipif(not ALL, reason="RESILIENT_CACHE_TEST_MUTATIONS=1 is not set")
def test_nothing_passes_without_a_rule() -> None:
    command = [sys.executable, "-m", "tests.mutations", "--verbose"]
    tried = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert tried.returncode == 0, tried.stdout + tried.stderr


EDITS = {
    "returns": (returns("1"), "return f(a)", "return 1"),
    "returns, when": (returns("1", when="a"), "return f(a)", "if a:\n    return 1\nreturn f(a)"),
    "starts_with": (starts_with("f()"), "'Documented.'\ng()", "'Documented.'\nf()\ng()"),
    "ends_with": (ends_with("f()"), "g()", "g()\nf()"),
    "without_call": (without_call("f"), "x = a.f(1) or g(2)", "x = None or g(2)"),
    "skips": (skips("f", when="a"), "f(1)\nb.f(2)", "None if a else f(1)\nNone if a else b.f(2)"),
    "call_becomes": (call_becomes("f", "{} + 1"), "return f(a)", "return f(a) + 1"),
    "argument": (argument("f", 1, "0"), "f(a, b)", "f(a, 0)"),
    "condition of an if": (condition("x", "True"), "if self.x > y:\n    f()", "if True:\n    f()"),
    "condition, the innermost": (
        condition("x", "True"),
        "while [a for a in b if x]:\n    f()",
        "while [a for a in b if True]:\n    f()",
    ),
    "condition as it is written": (
        condition("not x", "{} and y"),
        "if x:\n    if not x:\n        f()",
        "if x:\n    if not x and y:\n        f()",
    ),
    "without_term": (without_term("y"), "return x and y(1) and z", "return x and z"),
    "without_term, of two": (without_term("y"), "return x or y(1)", "return x"),
    "without_statement": (without_statement("x", "f"), "x = f()\ny = f()", "pass\ny = f()"),
    "assigned": (assigned("x", "1"), "a.x, y = f()", "a.x, y = 1"),
    "return_becomes": (
        return_becomes("None", "1"),
        "if a:\n    return None\nreturn 2",
        "if a:\n    return 1\nreturn 2",
    ),
    "read_as": (read_as("x", "y + 1"), "x = f()\nreturn [x]", "x = f()\nreturn [y + 1]"),
    "without_yields": (
        without_yields(),
        "yield a\nb = (yield c)",
        "pass\nb = (yield c)\nif False:\n    yield",
    ),
}


@pytest.mark.parametrize(("edit", "before", "after"), EDITS.values(), ids=EDITS)
def test_an_edit_changes_a_function(edit, before, after):
    function = find(ast.parse(f"def edited(): ...\ndef other(): {'f(); ' * 2}"), "edited")
    assert isinstance(function, ast.FunctionDef)
    function.body = ast.parse(before).body
    edit(function)
    assert ast.unparse(function.body) == after  # type: ignore[arg-type]  # a list is unparsed too


def test_a_method_and_a_constant_are_found_by_their_paths():
    tree = ast.parse(
        "class A:\n    X = 1\n    def f(self):\n        if a:\n            def g(): ..."
    )
    assert ast.unparse(find(tree, "A.f.g")) == "def g():\n    ..."
    constant = find(tree, "A.X")
    becomes("2")(constant)
    assert ast.unparse(constant) == "X = 2"
    with pytest.raises(LookupError, match="found 0 times"):
        find(tree, "A.g")


@pytest.mark.parametrize("edit", [without_call("f"), condition("x", "1"), without_term("x")])
@pytest.mark.parametrize("times", [0, 2])
def test_what_an_edit_looks_for_is_there_once(edit, times):
    statement = "if x and y and f():\n    pass\n"
    with pytest.raises(LookupError, match=f"found {times} times"):
        edit(ast.parse(statement * times))
