"""wirecheck: prove that two language models can be wired together before GPU hours are spent."""

__version__ = "0.1.0"
