"""The command `breakers`: what it writes, what it does, what it exits with."""
