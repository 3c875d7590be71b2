"""arena-rm: which of two answers would people prefer. This file runs at every interpreter start; keep it empty."""

__version__ = "0.1.0"
