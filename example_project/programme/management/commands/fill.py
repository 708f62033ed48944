"""manage.py fill: create the tables and the sample programme."""

from __future__ import annotations

from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.db import transaction

from programme.models import Talk
from programme.sample import create_programme


class Command(BaseCommand):
    help = "Creates the tables and fills them with a conference programme, unless there is one."

    def handle(self, *args: Any, **options: Any) -> None:
        call_command("migrate", verbosity=0)
        if Talk.objects.exists():
            self.stdout.write("There is a programme already; nothing was changed.")
            return
        with transaction.atomic():
            create_programme()
        self.stdout.write(f"{Talk.objects.count()} talks created.")
