"""`manage.py demo`: an outage of Redis, rehearsed on the example site in front of your eyes."""
