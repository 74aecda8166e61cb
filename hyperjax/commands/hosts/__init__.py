"""A run of several processes: how they find each other, and end together."""
