"""`python -m hyperjax`: the `hyperjax` program."""

from hyperjax import main

if __name__ == "__main__":
  main.run()
