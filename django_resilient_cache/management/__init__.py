"""What an operator types and reads; the command itself is in `commands`."""
