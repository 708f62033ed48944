#!/usr/bin/env python
"""Django's command line for the example project: a conference programme."""

from __future__ import annotations

import os
import sys

NEEDS = """\
{name} is not installed for {python}.
From the repository's root, this installs all that the example needs:

    python3 -m venv .venv && .venv/bin/pip install -e ".[example]"

and this runs it:

    .venv/bin/python example_project/manage.py demo
"""


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "conference.settings")
    try:
        import django_redis  # noqa: F401  # whether it is there
        from django.core.management import execute_from_command_line

        import django_resilient_cache  # noqa: F401  # whether it is there
    except ModuleNotFoundError as missing:
        sys.exit(NEEDS.format(name=missing.name, python=sys.executable))
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
