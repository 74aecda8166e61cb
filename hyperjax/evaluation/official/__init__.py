"""The figures of each benchmark, as its authors compute them."""
