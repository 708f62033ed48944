"""Time limits: three ways to end an operation in time."""
