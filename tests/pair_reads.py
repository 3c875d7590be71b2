"""Reads of rows, for the tests of `pairs`, and what they warn of.

A test module takes the fixture by name: `notes = pair_reads.notes`.
"""

import logging

import pytest

from harness_plugin.pairs import pairs_from_rows

ASK = {"prompt": "Hi", "response_a": "Hello.", "response_b": "Yes?", "winner": "tie"}
RANKED = {"prompt": "Hi", "chosen": "Hello.", "rejected": "Yes?"}


def read_one(row):
    return pairs_from_rows([row]).pairs[0]


@pytest.fixture(autouse=True)
def notes(caplog):
    caplog.set_level(logging.INFO, "lm_eval.arena_rm")
    return caplog


def warned(notes):
    said = [record.getMessage() for record in notes.records if record.levelname == "WARNING"]
    notes.clear()
    return said
