"""arena-rm: which of two answers would people prefer.

This file runs at every interpreter start, so the public names are imported when they are first asked for.
"""

__version__ = "0.2.0"

_PUBLIC = {
    "Pair": "pairs",
    "Winner": "pairs",
    "read_pairs": "pairs",
    "write_pairs": "pairs",
    "read_outputs": "pairs",
    "Judge": "judges",
    "Judgement": "scoring",
    "open_judge": "judges",
}

__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str):
    if name in _PUBLIC:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
