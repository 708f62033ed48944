"""`manage.py breakers` again and again in one process: what a call of it says, without Python's start.

Reads arguments, a JSON list per line; answers with code, output and error.
"""

from __future__ import annotations

import json
import sys

import django


def answer(arguments: list[str]) -> dict[str, object]:
    from tests.command.conftest import Run

    run = Run(*arguments)
    return {"code": run.code, "out": run.out, "error": run.error}


if __name__ == "__main__":
    django.setup()
    for line in iter(sys.stdin.readline, ""):
        sys.stdout.write(f"{json.dumps(answer(json.loads(line)))}\n")
        sys.stdout.flush()
