"""The board: the place that workers share, and the records on it."""
