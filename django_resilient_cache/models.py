"""What the admin's page hangs on: a model without a table, for its permissions and its log."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class NoRows(models.Manager["Breaker"]):
    """Finds nothing, and asks no database for it: `dumpdata` and its like walk every model."""

    def get_queryset(self) -> models.QuerySet[Breaker]:
        return super().get_queryset().none()


class Breaker(models.Model):
    """The breaker of one alias, in all workers.  Breakers live in the workers' memory."""

    alias = models.CharField(_("alias"), max_length=255, primary_key=True)

    objects = NoRows()

    class Meta:
        managed = False
        default_permissions = ("view", "change")
        base_manager_name = "objects"
        verbose_name = _("breaker")
        verbose_name_plural = _("breakers")

    def __str__(self) -> str:
        return self.alias
