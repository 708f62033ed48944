"""All that knows foreign cache backends: operations and their outcomes, lifetimes, errors, instances."""
