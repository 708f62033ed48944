from __future__ import annotations

from django.urls import path

from programme import views

urlpatterns = [
    path("", views.overview, name="overview"),
    path("days/<int:pk>/", views.overview, name="day"),
    path("tracks/<slug:slug>/", views.track, name="track"),
    path("talks/<int:pk>/", views.talk, name="talk"),
    path("talks/<int:pk>/edit/", views.edit, name="edit"),
    path("speakers/", views.speakers, name="speakers"),
    path("best/", views.best, name="best"),
]
