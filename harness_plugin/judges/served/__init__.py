"""Judges behind a server: vLLM, SGLang, chat completions, decision models (System One). No weights are loaded; only the
tokenizer of a classifier (vLLM, SGLang) brings transformers with it.

`opening` opens one, and `judge` asks it about pairs, several at a time. What is asked and how an answer is read differs
by server (`dialect` says what a server's file has to give): `vllm` and `sglang` share `classifier`, `chat` is the
chat completions with `chat_prompt` and `verdict`, `system_one` the decision models. `client` sends a question and
repeats it where that can help, `error_bodies` reads why a server refuses one, `pace` keeps to rate limits, `budget` to
what may be spent, `api_key` holds the key.
`models` asks a server for its model's name, and `handshake` tries a judge with answers of known order before a run.
`lengths` notices a server that cuts long texts. `states` are the ways in which an answer can be unusable.
"""
