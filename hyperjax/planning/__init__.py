"""What a run needs of accelerators that are not there yet: memory, time, traffic."""
