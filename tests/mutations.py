"""What each rule of coming back is worth: take one out, and a test must fail.

    python -m tests.mutations               # all, a line each; exit code 1 if one survives
    python -m tests.mutations NAME ...      # some of them
    python -m tests.mutations --list
    python -m tests.mutations --diff NAME   # what a mutant's code looks like

The rules and how each is taken out stand in tests/mutation_table.py.  First the whole package has
to pass, then each mutant, a package with a function or two edited, has to fail: the property test,
or what the table names where the property test cannot see the rule.  The examples are the same each
time, so that one run says what the next one will.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import difflib
import functools
import importlib
import io
import itertools
import os
import subprocess
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import find_spec, spec_from_file_location
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import CodeType
from typing import Any

from tests.code_edits import find
from tests.mutation_table import MUTATIONS, Mutation

NAME = "django_resilient_cache"

#: Examples of the property test that a mutant may survive.  The suite tries 300 in a run; a rule
#: about two changes at once is met in one of some 200.
EXAMPLES = 1000

#: What the examples are drawn from.  Without it Hypothesis takes the names in the test, so that a
#: renaming would have other examples drawn.
SEED = 3

#: Seconds after which a mutant counts as killed: it hangs where the whole package does not.
PATIENCE = 900

#: What takes long to import, and is neither the package nor imports it.
_HEAVY = (
    *("hypothesis.stateful", "hypothesis.strategies", "pytest"),
    *("django.core.cache.backends.locmem", "django.db.models", "django.urls"),
)

#: The whole package.
NOTHING = Mutation("nothing", "nothing is taken out: all pass", ())


@dataclass(frozen=True, slots=True)
class Found:
    """What the tests said of a mutant."""

    killed: bool
    by: str
    """The test that failed."""
    said: str
    """Its message."""
    seconds: float = 0.0


def code_of(mutation: Mutation) -> dict[str, ast.Module]:
    """Return the edited modules; raises LookupError where the table does not fit the package."""
    modules: dict[str, ast.Module] = {}
    for place in mutation.places:
        module, _, path = place.function.partition(":")
        tree = modules.setdefault(module, _parsed(module))
        try:
            function = find(tree, path)
            before = ast.unparse(function)
            for edit in place.edits:
                edit(function)
            if ast.unparse(function) == before:
                raise LookupError("the edits change nothing")
        except LookupError as error:
            raise LookupError(
                f"tests/mutation_table.py, {mutation.name}, {place.function}: {error}"
            ) from None
        ast.fix_missing_locations(tree)
    return modules


def _parsed(module: str) -> ast.Module:
    return ast.parse(_path(module).read_text("utf-8"))


def _path(module: str) -> Path:
    spec = find_spec(NAME)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent.joinpath(*module.split(".")).with_suffix(".py")


class _EditedLoader(SourceFileLoader):
    """Loads a module from the tree that the edits have left."""

    def __init__(self, module: str, tree: ast.Module) -> None:
        super().__init__(f"{NAME}.{module}", str(_path(module)))
        self._tree = tree

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._tree, self.path, "exec", dont_inherit=True)


class _Mutant:
    """Finds the modules that lack the rule."""

    def __init__(self, mutation: Mutation) -> None:
        loaders = [_EditedLoader(module, tree) for module, tree in code_of(mutation).items()]
        self.loaders = {loader.name: loader for loader in loaders}

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        loader = self.loaders.get(fullname)
        if loader is None:
            return None
        return spec_from_file_location(fullname, loader.path, loader=loader)


def put_to_the_test(mutation: Mutation, examples: int = EXAMPLES) -> Found:
    """Let the tests loose on a mutant.  In a process of its own that has not imported the package."""
    assert NAME not in sys.modules
    if mutation.places:
        mutant: Any = _Mutant(mutation)
        sys.meta_path.insert(0, mutant)
        for module in mutant.loaders:  # before pytest looks for modules its own way
            importlib.import_module(module)
    if mutation.by:
        return _unit_tests([mutation.by])
    found = _property_test(examples)
    by = sorted({each.by for each in MUTATIONS} - {""})
    return found if mutation.places or found.killed or not by else _control(by)


def _property_test(examples: int) -> Found:
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    importlib.import_module("django").setup()
    test: Any = importlib.import_module("tests.test_property_chain")
    hypothesis: Any = importlib.import_module("hypothesis")
    for machine, case, most in (
        (test.ChainMachine, test.TestChain, examples),
        (test.HealthyMachine, test.TestHealthy, max(1, examples // 3)),
    ):
        number = _counted(hypothesis.seed(SEED)(machine))
        case.settings = hypothesis.settings(
            case.settings,
            max_examples=most,
            derandomize=True,
            phases=[hypothesis.Phase.generate],
        )
        try:
            case("runTest").runTest()
        except AssertionError as error:
            by = f"{machine.__name__}, example {number()}"
            return Found(killed=True, by=by, said=str(error).partition("\n")[0])
    return Found(killed=False, by="", said="")


def _control(names: list[str]) -> Found:
    """Let unit tests loose on the package as it is: in a new process, as this one has run others."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:randomly", *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        raise RuntimeError(done.stdout + done.stderr)
    return Found(killed=done.returncode == 1, by=" ".join(names), said=done.stdout[-300:])


def _counted(machine: Any) -> Callable[[], int]:
    """Count the examples of a machine; the last one is made twice, to be sure of its failure."""
    count, init = itertools.count(), machine.__init__

    @functools.wraps(init)  # Hypothesis draws by the signature, too
    def counted(self: Any) -> None:
        next(count)
        init(self)

    machine.__init__ = counted
    return lambda: next(count) - 2  # and one more, which is none: only to see what there is to do


def _unit_tests(names: list[str]) -> Found:
    pytest: Any = importlib.import_module("pytest")
    said = io.StringIO()
    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:xdist"]
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # imported already: Hypothesis
    with contextlib.redirect_stdout(said):
        end = pytest.main([*options, *names])
    if end not in (0, 1):
        raise RuntimeError(said.getvalue())
    errors = [line[1:].strip() for line in said.getvalue().splitlines() if line.startswith("E ")]
    return Found(killed=end == 1, by=" ".join(names), said=(errors or [""])[0])


# Each in a process of its own, a few at a time


@dataclass(slots=True)
class _Trial:
    mutation: Mutation
    process: BaseProcess
    began: float


def tried(
    mutations: Sequence[Mutation], examples: int, jobs: int
) -> Iterator[tuple[Mutation, Found]]:
    """Put each to the test, `jobs` at a time; yield what was found in the order that it is."""
    for name in _HEAVY:
        importlib.import_module(name)
    waiting, trials = deque(mutations), dict[Connection, _Trial]()
    while waiting or trials:
        while waiting and len(trials) < jobs:
            _begin(waiting.popleft(), examples, trials)
        for answer in wait(list(trials), timeout=1.0):
            assert isinstance(answer, Connection)
            trial = trials.pop(answer)
            yield trial.mutation, _found(trial, answer)
            trial.process.join()
        for trial in trials.values():
            if trial.process.is_alive() and time.monotonic() > trial.began + PATIENCE:
                trial.process.kill()


def _begin(mutation: Mutation, examples: int, trials: dict[Connection, _Trial]) -> None:
    context: Any = get_context("fork")
    answer, end = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(mutation, examples, end))
    process.start()
    end.close()
    trials[answer] = _Trial(mutation, process, time.monotonic())


def _answer(mutation: Mutation, examples: int, end: Connection) -> None:
    try:
        end.send(put_to_the_test(mutation, examples))
    except BaseException:  # the parent is to hear of it
        end.send(traceback.format_exc())


def _found(trial: _Trial, answer: Connection) -> Found:
    """Return what came of a trial, which has ended or was ended."""
    seconds = time.monotonic() - trial.began
    try:
        found: Any = answer.recv()
    except EOFError:
        if seconds < PATIENCE:
            found = "It ended without a word."
        else:
            found = Found(killed=True, by="patience", said="hangs")
    if not isinstance(found, Found):
        raise RuntimeError(f"{trial.mutation.name} is no mutant but a mistake:\n{found}")
    return replace(found, seconds=seconds)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks for; return the exit code."""
    options = _parser().parse_args(arguments)
    chosen = [m for m in (NOTHING, *MUTATIONS) if not options.names or m.name in options.names]
    if options.list:
        for mutation in chosen:
            print(f"{mutation.name:54} {mutation.rule}")
        return 0
    if options.diff:
        for mutation in chosen:
            print(*_diff(mutation), sep="\n")
        return 0
    began, survived = time.monotonic(), []
    for mutation, found in tried(chosen, options.examples, options.jobs):
        if found.killed != bool(mutation.places):
            survived.append(mutation.name)
        end = "killed  " if found.killed else "passes  "
        print(f"{end} {mutation.name:52} {found.seconds:5.1f} s  {found.by}", flush=True)
        if options.verbose:
            print(f"         {mutation.rule}\n         {found.said}", flush=True)
    print(f"{len(chosen)} tried in {time.monotonic() - began:.0f} s")
    if survived:
        print(f"Otherwise than expected: {', '.join(survived)}")
    return 1 if survived else 0


def _diff(mutation: Mutation) -> Iterator[str]:
    """Return how a mutant differs from the package; comments are in neither of them."""
    for module, tree in code_of(mutation).items():
        before, after = (ast.unparse(each).splitlines() for each in (_parsed(module), tree))
        yield from difflib.unified_diff(before, after, module, mutation.name, lineterm="")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m tests.mutations", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    names = [mutation.name for mutation in (NOTHING, *MUTATIONS)]
    parser.add_argument("names", nargs="*", metavar="NAME", choices=[*names, []])
    parser.add_argument("--list", action="store_true", help="only say what there is")
    parser.add_argument("--diff", action="store_true", help="only show the code of the mutants")
    parser.add_argument(
        "--verbose", action="store_true", help="say the rules and the failures, too"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="(%(default)s)")
    parser.add_argument(
        "--examples", type=int, default=EXAMPLES, help="of the property test, at most (%(default)s)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
