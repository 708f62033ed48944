"""The admin's page in a real browser, on a real site with real workers."""
