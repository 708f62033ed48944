"""The model that the admin's page hangs on: permissions, and no table."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    """Creates no table."""

    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Breaker",
            fields=[
                (
                    "alias",
                    models.CharField(
                        max_length=255, primary_key=True, serialize=False, verbose_name="alias"
                    ),
                ),
            ],
            options={
                "verbose_name": "breaker",
                "verbose_name_plural": "breakers",
                "managed": False,
                "default_permissions": ("view", "change"),
                "base_manager_name": "objects",
            },
        ),
    ]
