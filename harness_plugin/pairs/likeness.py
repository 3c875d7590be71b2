"""Texts as a person sees them: what two of them look alike by that are not the same.

This file knows texts and no file.
"""

import unicodedata


def seen_text(text: str) -> str:
    """The text with every run of white space as one space, without characters that show nothing, and with one spelling
    of each character."""
    if not text.isascii():  # ASCII has neither, and there may be many texts
        text = "".join(c for c in unicodedata.normalize("NFKC", text) if unicodedata.category(c) != "Cf")
    return " ".join(text.split())
