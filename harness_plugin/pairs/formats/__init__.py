"""Formats of pairs and of answers: one file for each family, and `table` with one entry for each format.

`canonical` (our own columns), `arena`, `mt_bench`, `preferences` (chosen and rejected), `alpaca_eval`, `arena_hard` and
`lm_eval_samples` turn one row into a pair or into one model's answer. `chat` (messages and transcripts), `battle` (two
conversations and a winner) and `columns` (cells) are what they share. Nothing here knows files.
"""
