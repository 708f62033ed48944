"""The admin's page: every breaker in every worker, and orders for them.

Works on any AdminSite: `site.register(Breaker, BreakerAdmin)`.  Looks at the board and nowhere
else, so that it says the same from whichever worker answers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import django
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import translation
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from django_resilient_cache import conf
from django_resilient_cache.admin import translated
from django_resilient_cache.admin.fleet_client import control, settle
from django_resilient_cache.admin.forms import ORDERS, OrderForm
from django_resilient_cache.admin.layer_rows import anchor
from django_resilient_cache.admin.order_progress import packed, unpacked
from django_resilient_cache.admin.page_context import NO_BOARD, look
from django_resilient_cache.conf.masking import masked_in_prose
from django_resilient_cache.fleet.board.order import Order
from django_resilient_cache.models import Breaker

if TYPE_CHECKING:
    Base = admin.ModelAdmin[Breaker]
else:
    Base = admin.ModelAdmin

TEMPLATES = "admin/django_resilient_cache/breaker"


@admin.register(Breaker)
class BreakerAdmin(Base):
    """The list of breakers, a page to confirm an order on, and the order itself."""

    def get_urls(self) -> list[URLPattern]:
        """Return this page's own addresses alone: there is nothing to add, edit or delete."""
        return [
            self._path("", self.changelist_view, "changelist"),
            self._path("confirm/", self.confirm_view, "confirm"),
            self._path("order/", self.order_view, "order"),
            self._path("<path:object_id>/history/", self.history_view, "history"),
            self._path("<path:object_id>/change/", self.change_view, "change"),
        ]

    def has_add_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Breaker | None:
        """Return the breaker of a configured alias; no table is asked."""
        return Breaker(alias=object_id) if object_id in conf.layer_aliases() else None

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the fleet; with ?fragment only what changes, for the page to refresh itself."""
        self._may(self.has_view_or_change_permission(request))
        if request.method not in ("GET", "HEAD"):
            return HttpResponseNotAllowed(["GET", "HEAD"])
        given = request.GET.get("given", "")
        fragment = "fragment" in request.GET
        context = {
            "page": look(control, unpacked(given), request.GET.getlist("worker")),
            "given": given,
            "fragment": fragment,
            "legend": translated.legend(),
            **(extra_context or {}),
        }
        template = "live.html" if fragment else "change_list.html"
        return self._respond(request, template, context)

    def confirm_view(self, request: HttpRequest) -> HttpResponse:
        """Say what an order would do, and ask for its reason and time."""
        self._may(self.has_change_permission(request))
        if request.method not in ("GET", "HEAD"):
            return HttpResponseNotAllowed(["GET", "HEAD"])
        order, aliases = request.GET.get("order"), request.GET.getlist("alias")
        if order not in ORDERS or not aliases or not set(aliases) <= set(conf.layer_aliases()):
            return self._nothing(request)
        return self._ask(request, OrderForm(initial={"order": order, "alias": aliases}))

    def order_view(self, request: HttpRequest) -> HttpResponse:
        """Give an order, log it, and show how far it gets."""
        self._may(self.has_change_permission(request))
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        form = OrderForm(request.POST)
        if not form.is_valid():
            return self._nothing(request) if form.names_nothing else self._ask(request, form)
        try:
            giver = control()
            orders = giver.give(**form.as_order(), actor=f"admin {request.user.get_username()}")
        except (*NO_BOARD, ValueError) as error:
            return self._ask(request, form, failure=masked_in_prose(str(error)))
        for order in orders:
            self._log(request, order)
        settle(giver, orders)
        return HttpResponseRedirect(f"{self._url('changelist')}?given={packed(orders)}")

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Lead to the breaker in the list: what the admin's log and its index link to."""
        self._may(self.has_view_or_change_permission(request))
        alias = unquote(object_id)
        if alias not in conf.layer_aliases():
            text = _("There is no breaker “%(alias)s” (any more).") % {"alias": alias}
            self.message_user(request, text, messages.WARNING)
            return HttpResponseRedirect(self._url("changelist"))
        return HttpResponseRedirect(f"{self._url('changelist')}#{anchor('breaker', alias)}")

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the orders that were given here, from the admin's log."""
        self._may(self.has_view_or_change_permission(request))
        return super().history_view(request, object_id, extra_context)

    def _ask(self, request: HttpRequest, form: OrderForm, failure: str = "") -> HttpResponse:
        # A board that has just failed is not waited for a second time.
        page = None if failure else look(control)
        context = {
            "form": form,
            "failure": failure,
            "page": page,
            "rows": [row for row in page.rows if row.alias in form.aliases] if page else [],
            "title": form.title,
        }
        return self._respond(request, "confirm.html", context)

    def _nothing(self, request: HttpRequest) -> HttpResponse:
        self.message_user(request, _("There is no such breaker or order."), messages.ERROR)
        return HttpResponseRedirect(self._url("changelist"))

    def _respond(
        self, request: HttpRequest, template: str, context: dict[str, Any]
    ) -> TemplateResponse:
        request.current_app = self.admin_site.name
        everywhere = {
            **self.admin_site.each_context(request),
            "title": capfirst(self.opts.verbose_name_plural),
            "opts": self.opts,
            "may_change": self.has_change_permission(request),
            "list_url": self._url("changelist"),
            "confirm_url": self._url("confirm"),
            "order_url": self._url("order"),
            "breadcrumbs_are_a_list": django.VERSION >= (6, 1),
        }
        return TemplateResponse(request, f"{TEMPLATES}/{template}", {**everywhere, **context})

    def _log(self, request: HttpRequest, order: Order) -> None:
        with translation.override(settings.LANGUAGE_CODE):  # the log's, whoever reads it
            message = str(translated.ACTION_WORDS[order.action])
            if order.action.stands:
                span = (
                    _("until revoked")
                    if order.seconds is None
                    else _("for %(time)s") % {"time": translated.duration(order.seconds)}
                )
                message = f"{message} {span}"
            if order.reason:
                message = f"{message}: {order.reason}"
        self.log_change(request, Breaker(alias=order.alias), message)

    def _path(self, route: str, view: Callable[..., HttpResponse], name: str) -> URLPattern:
        return path(route, self.admin_site.admin_view(view), name=self._name(name))

    def _name(self, view: str) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}_{view}"

    def _url(self, view: str) -> str:
        return reverse(f"admin:{self._name(view)}", current_app=self.admin_site.name)

    @staticmethod
    def _may(permitted: bool) -> None:
        if not permitted:
            raise PermissionDenied
