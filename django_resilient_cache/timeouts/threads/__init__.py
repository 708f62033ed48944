"""The *thread* limit: calls run on a bounded set of daemon threads."""
