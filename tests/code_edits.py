"""Small changes of one function's code, each found by the names that the code uses.

An edit gets the syntax tree of a function (or of an assignment of a module or class) and changes
it in place.  What it looks for is given by names, `without_call("missed")`, or, where a name occurs
more than once, by an expression, `condition("not calls", "True")`: so that moved lines, other
arguments and other words in comments leave it as it is, and after a renaming one word has to be
written anew.  What an edit looks for must be there exactly once, else it raises LookupError.

In a replacement `{}` stands for the expression that is replaced.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias, TypeVar

Edit: TypeAlias = Callable[[ast.AST], None]

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.Match)

N = TypeVar("N", bound=ast.AST)


def find(tree: ast.Module, path: str) -> ast.AST:
    """Return the function, class or assignment with this dotted path; raises LookupError."""
    place: ast.AST = tree
    for name in path.split("."):
        found = [node for node in _inside(place) if name in _names_of(node)]
        place = _only(found, f"{path}: {name}")
    return place


def _inside(place: ast.AST) -> Iterator[ast.AST]:
    """Yield what is defined in a module, class or function."""
    for node in ast.iter_child_nodes(place):
        yield node
        if isinstance(node, _BLOCKS):
            yield from _inside(node)


def _names_of(node: ast.AST) -> list[str]:
    if isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
        return [node.name]
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return [target.id for target in targets if isinstance(target, ast.Name)]
    return []


# The whole of a function, or of a constant


def returns(value: str, when: str | None = None) -> Edit:
    """The function does nothing but return a value; `when`: and only then."""

    def edit(place: ast.AST) -> None:
        body = _body(place)
        known: list[ast.stmt] = [ast.Return(_expression(value))]
        # What yields still has to: else it would be no generator any more.
        if when is not None:
            known = [ast.If(_expression(when), known, [])]
        elif not _yields(place):
            body.clear()
        _put_first(body, known)

    return edit


def starts_with(code: str) -> Edit:
    """These statements come before all others."""

    def edit(place: ast.AST) -> None:
        _put_first(_body(place), ast.parse(code).body)

    return edit


def ends_with(code: str) -> Edit:
    """These statements come after all others."""

    def edit(place: ast.AST) -> None:
        _body(place).extend(ast.parse(code).body)

    return edit


def becomes(value: str) -> Edit:
    """A constant of a module or class has another value."""

    def edit(place: ast.AST) -> None:
        assert isinstance(place, ast.Assign | ast.AnnAssign)
        place.value = _expression(value)

    return edit


# Calls


def without_call(name: str) -> Edit:
    """A function or method is not called; where its result is used that is None."""

    def edit(place: ast.AST) -> None:
        call = _only(_calls(place, name), f"a call of {name}")
        _replace(place, call, ast.Constant(None))

    return edit


def skips(name: str, when: str) -> Edit:
    """A function or method is not called then, wherever it is called; for calls without a result."""

    def edit(place: ast.AST) -> None:
        calls = _calls(place, name)
        if not calls:
            raise LookupError(f"there is no call of {name}")
        for call in calls:
            _replace(place, call, ast.IfExp(_expression(when), ast.Constant(None), call))

    return edit


def call_becomes(name: str, value: str) -> Edit:
    """Instead of a call there is another expression."""

    def edit(place: ast.AST) -> None:
        call = _only(_calls(place, name), f"a call of {name}")
        _replace(place, call, _expression(value, call))

    return edit


def argument(name: str, index: int, value: str) -> Edit:
    """A function or method is called with another positional argument."""

    def edit(place: ast.AST) -> None:
        call = _only(_calls(place, name), f"a call of {name}")
        call.args[index] = _expression(value, call.args[index])

    return edit


# Conditions


def condition(what: str, value: str) -> Edit:
    """What an `if`, `while`, `case` or comprehension asks about `what` is something else."""

    def edit(place: ast.AST) -> None:
        test = _only(_innermost(_about(_tests(place), what)), f"a condition about {what}")
        _replace(place, test, _expression(value, test))

    return edit


def without_term(what: str) -> Edit:
    """The operand about `what` is no longer a part of its `and` or `or`."""

    def edit(place: ast.AST) -> None:
        operations = [node for node in ast.walk(place) if isinstance(node, ast.BoolOp)]
        terms = [term for operation in operations for term in operation.values]
        term = _only(_innermost(_about(terms, what)), f"an operand about {what}")
        (operation,) = (each for each in operations if term in each.values)
        operation.values.remove(term)
        if len(operation.values) == 1:
            _replace(place, operation, operation.values[0])

    return edit


# Statements


def without_statement(*names: str) -> Edit:
    """The one simple statement that uses all of these names is not there."""

    def edit(place: ast.AST) -> None:
        statement = _only(_statements(place, names), f"a statement about {' and '.join(names)}")
        _replace(place, statement, ast.Pass())

    return edit


def without_yields() -> Edit:
    """What a generator only yields, without a use for the answer, is not yielded."""

    def edit(place: ast.AST) -> None:
        found = [
            node
            for node in ast.walk(place)
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Yield)
        ]
        if not found:
            raise LookupError("nothing is yielded")
        for statement in found:
            _replace(place, statement, ast.Pass())
        _body(place).extend(ast.parse("if False: yield").body)

    return edit


def assigned(name: str, value: str) -> Edit:
    """A variable or attribute is given another value."""

    def edit(place: ast.AST) -> None:
        found = [
            node
            for node in ast.walk(place)
            if isinstance(node, ast.Assign)
            and any(_uses(target, [name]) for target in node.targets)
        ]
        assignment = _only(found, f"an assignment of {name}")
        assignment.value = _expression(value, assignment.value)

    return edit


def return_becomes(value: str, other: str) -> Edit:
    """Where the function returns this value it returns another."""

    def edit(place: ast.AST) -> None:
        returned = [node for node in ast.walk(place) if isinstance(node, ast.Return)]
        found = [each for each in returned if each.value is not None and _is(each.value, value)]
        _only(found, f"a return of {value}").value = _expression(other)

    return edit


def read_as(name: str, value: str) -> Edit:
    """A variable is not read; there is another expression instead."""

    def edit(place: ast.AST) -> None:
        found = [
            node
            for node in ast.walk(place)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id == name
        ]
        use = _only(found, f"a use of {name}")
        _replace(place, use, _expression(value, use))

    return edit


# Finding and replacing


def _only(found: Iterable[N], what: str) -> N:
    found = list(found)
    if len(found) != 1:
        raise LookupError(f"{what}: found {len(found)} times, which must be once")
    return found[0]


def _calls(place: ast.AST, name: str) -> list[ast.Call]:
    calls = [node for node in ast.walk(place) if isinstance(node, ast.Call)]
    return [call for call in calls if _last_name(call.func) == name]


def _last_name(called: ast.AST) -> str | None:
    if isinstance(called, ast.Attribute):
        return called.attr
    return called.id if isinstance(called, ast.Name) else None


def _tests(place: ast.AST) -> Iterator[ast.expr]:
    for node in ast.walk(place):
        if isinstance(node, ast.If | ast.While | ast.IfExp | ast.Assert):
            yield node.test
        elif isinstance(node, ast.comprehension):
            yield from node.ifs
        elif isinstance(node, ast.match_case) and node.guard is not None:
            yield node.guard


def _about(found: Iterable[ast.expr], what: str) -> list[ast.expr]:
    """Return those that use a name, or those that are this expression."""
    if what.isidentifier():
        return [node for node in found if _uses(node, [what])]
    return [node for node in found if _is(node, what)]


def _innermost(found: list[ast.expr]) -> list[ast.expr]:
    return [
        node
        for node in found
        if not any(other is not node and other in ast.walk(node) for other in found)
    ]


def _statements(place: ast.AST, names: Iterable[str]) -> list[ast.stmt]:
    return [
        node
        for node in ast.walk(place)
        if isinstance(node, ast.stmt)
        and not isinstance(node, (*_BLOCKS, *_FUNCTIONS, ast.ClassDef))
        and _uses(node, names)
    ]


def _uses(place: ast.AST, names: Iterable[str]) -> bool:
    used: set[str | None] = set()
    for node in ast.walk(place):
        used |= {_last_name(node)}
        if isinstance(node, ast.keyword):
            used |= {node.arg}
    return used >= set(names)


def _is(node: ast.expr, text: str) -> bool:
    return ast.unparse(node) == ast.unparse(_expression(text))


def _body(place: ast.AST) -> list[ast.stmt]:
    assert isinstance(place, (*_FUNCTIONS, ast.ClassDef))
    return place.body


def _put_first(body: list[ast.stmt], statements: list[ast.stmt]) -> None:
    first = body[0] if body else None
    documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    body[documented:documented] = statements


def _yields(place: ast.AST) -> bool:
    return any(isinstance(node, ast.Yield | ast.YieldFrom) for node in ast.walk(place))


def _expression(text: str, replaced: ast.AST | None = None) -> ast.expr:
    if replaced is not None:
        text = text.replace("{}", f"({ast.unparse(replaced)})")
    return ast.parse(text, mode="eval").body


def _replace(place: ast.AST, old: ast.AST, new: ast.AST) -> None:
    """Put a node where another one is, anywhere in `place`."""
    for node in ast.walk(place):
        for name, value in ast.iter_fields(node):
            if value is old:
                setattr(node, name, new)
                return
            if isinstance(value, list) and any(each is old for each in value):
                value[next(i for i, each in enumerate(value) if each is old)] = new
                return
    raise AssertionError("it is not in there")
