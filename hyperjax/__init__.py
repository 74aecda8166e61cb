"""HyperJAX: hypermodels that write adapters for a frozen T5."""

__version__ = "0.1.0"
