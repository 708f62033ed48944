"""What an operation on a chain of layers means.  No I/O: a driver makes the calls."""
