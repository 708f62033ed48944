"""This process as a worker of the fleet."""
