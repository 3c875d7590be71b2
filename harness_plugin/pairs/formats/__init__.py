"""Formats of pairs and of answers: one file for each family. `registry` has one entry for each format, and
`detection` tells from the columns of a row which one it is.

`canonical` (our own columns), `arena`, `comparia`, `mt_bench`, `preferences` (chosen and rejected), `llama_factory`,
`fine_tuning` (OpenAI, ms-swift), `candidates` (several right and wrong answers), `ranked` (several answers, each with a
score or a rank), `benchmarks` (two answers and a word), `alpaca_eval`, `arena_hard`, `openai_batch`, `wildbench` and
`lm_eval_samples` turn one row into a pair, or several, or into one model's answer; `questions` are the prompts of
answers that come without them. `chat` (messages and transcripts), `chat_templates` (the same from a rendered text),
`two_conversations` (with a winner), `prompt_columns` and `sessions` (what stands before the question) and `columns`
(cells) are what they share. `format` says what an entry of the registry is and which columns it reads, `naming` what a
user's own columns are called. Nothing here knows files.
"""
