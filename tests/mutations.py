"""What each rule of coming back is worth: take one out, and the property test must fail.

    python -m tests.mutations               # all, a line each; exit code 1 if one survives
    python -m tests.mutations NAME ...      # some of them
    python -m tests.mutations --list

The rules and how each is taken out stand in tests/mutation_table.py.  Each mutant is a copy of the
package with a few lines replaced; the property test runs on it in a process of its own.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import django_resilient_cache
from tests.mutation_table import MUTATIONS, Mutation

PACKAGE = Path(django_resilient_cache.__file__).parent
TESTS = Path(__file__).parent

#: Seconds after which a mutant counts as killed: it hangs where the whole package does not.
PATIENCE = 600


@dataclass(frozen=True, slots=True)
class Found:
    """What the property test said of a mutant."""

    mutation: Mutation
    killed: bool
    seconds: float
    said: str


def text_of(mutation: Mutation, package: Path = PACKAGE) -> str:
    """Return the mutated module; raises LookupError where the table does not fit the package."""
    text = (package / mutation.module).read_text("utf-8")
    for old, new in mutation.edits:
        if text.count(old) != 1:
            raise LookupError(
                f"tests/mutation_table.py, {mutation.name}: {mutation.module} has this "
                f"{text.count(old)} times, which must be once:\n{old}"
            )
        text = text.replace(old, new)
    return text


@contextmanager
def mutant(mutation: Mutation) -> Iterator[Path]:
    """A folder with the tests and a package that lacks the rule."""
    text = text_of(mutation)
    with tempfile.TemporaryDirectory(prefix="mutant-") as name:
        root = Path(name)
        leave_out = shutil.ignore_patterns("__pycache__", "*.pyc")
        shutil.copytree(PACKAGE, root / PACKAGE.name, ignore=leave_out)
        (root / "tests").mkdir()
        for path in TESTS.glob("*.py"):
            shutil.copy(path, root / "tests")
        shutil.copy(TESTS.parent / "pyproject.toml", root)
        (root / PACKAGE.name / mutation.module).write_text(text, "utf-8")
        yield root


def put_to_the_test(mutation: Mutation, examples: int | None = None) -> Found:
    """Run the property test on the mutant; `examples`: that many, other ones each time."""
    began = time.monotonic()
    environment = {**os.environ, "RESILIENT_CACHE_SHRINK": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("RESILIENT_CACHE_EXAMPLES", None)
    environment.pop("COVERAGE_PROCESS_CONFIG", None)
    if examples is not None:
        environment["RESILIENT_CACHE_EXAMPLES"] = str(examples)
    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly"]
    with mutant(mutation) as root:
        environment["PYTHONPATH"] = str(root)
        command = [sys.executable, "-m", "pytest", *options, "tests/test_property_chain.py"]
        try:
            done = subprocess.run(
                command,
                cwd=root,
                env=environment,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Found(mutation, killed=True, seconds=time.monotonic() - began, said="hangs")
    said = _said(done.stdout)
    if done.returncode != 0 and not said.startswith("AssertionError"):
        raise RuntimeError(f"{mutation.name} is no mutant but a mistake:\n{done.stdout[-3000:]}")
    return Found(mutation, done.returncode == 1, time.monotonic() - began, said)


def _said(output: str) -> str:
    """The first line of the error that ended the test."""
    errors = re.findall(
        r"^E  +(\S*(?:Error|Exception|Interrupted|Configured).*)$", output, re.MULTILINE
    )
    return errors[0] if errors else ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks for; return the exit code."""
    options = _parser().parse_args(arguments)
    chosen = [m for m in MUTATIONS if not options.names or m.name in options.names]
    if options.list:
        for mutation in chosen:
            print(f"{mutation.name:44} {mutation.rule}")
        return 0
    survived = 0
    with ThreadPoolExecutor(options.jobs) as pool:
        for found in pool.map(lambda m: put_to_the_test(m, options.examples), chosen):
            survived += not found.killed
            end = "killed  " if found.killed else "SURVIVED"
            name, rule = found.mutation.name, found.mutation.rule
            print(f"{end} {name:44} {found.seconds:5.1f} s  {rule}", flush=True)
            if options.verbose:
                print(f"         {found.said}", flush=True)
    print(f"{len(chosen) - survived} of {len(chosen)} killed")
    return 1 if survived else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m tests.mutations", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    names = [mutation.name for mutation in MUTATIONS]
    parser.add_argument("names", nargs="*", metavar="NAME", choices=[*names, []])
    parser.add_argument("--list", action="store_true", help="only say what there is")
    parser.add_argument("--verbose", action="store_true", help="say what the test said, too")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="(%(default)s)")
    parser.add_argument(
        "--examples", type=int, help="so many, others each time (the suite's own, always the same)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
