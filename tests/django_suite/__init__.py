"""Django's own cache tests, with chains as the backend under test.

They come with Django's source distribution only: `python -m tests.django_suite DIRECTORY` fetches
those of the installed Django into that directory and runs them; so does `tox run -e django_suite`.
"""
