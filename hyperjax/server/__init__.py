"""A T5 and its adapters behind an address: `hyperjax serve`."""
