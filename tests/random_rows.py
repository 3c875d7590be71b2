"""Rows of every format of pairs with random texts, and what each row means."""

import json
from dataclasses import dataclass, field

from pair_rows import MODELS, PEOPLE

from harness_plugin.pairs import Winner

SPEAKERS = ("Human: ", "Assistant: ")


@dataclass
class Meaning:
    """What a row says: the user's turns, each side's answers to them (None: missing), and the parts of the prompt."""

    turns: list[str]
    a: list[str | None]
    b: list[str | None]
    winner: Winner | None
    system: str | None = None
    history: list[tuple[str, str]] = field(default_factory=list)
    context: str | None = None
    input: str | None = None

    @property
    def whole(self):
        return None not in self.a and None not in self.b

    def prompt(self, labelled):
        """The prompt as a pair holds it; `labelled`: whether the last turn names its speaker beside earlier ones."""
        before = [f"System: {self.system}"] if self.system else []
        before += [label + text for exchange in self.history for label, text in zip(SPEAKERS, exchange, strict=True)]
        turns = list(self.turns)
        turns[0] = f"{self.context}\n\n{turns[0]}" if self.context else turns[0]
        turns[-1] = f"{turns[-1]}\n\n{self.input}" if self.input else turns[-1]
        if labelled and before and len(turns) == 1:
            turns = [SPEAKERS[0] + turns[0]]
        return tuple(before + turns)


def text(rng, least=0):
    return "".join(rng.choices(PEOPLE, k=rng.randrange(least, 6))) + ("x" if least else "")


def meaning(rng, several_turns):
    count = rng.choice([1, 1, 2, 3]) if several_turns else 1
    answer = lambda: None if rng.random() < 0.04 else text(rng)  # noqa: E731
    part = lambda: text(rng, 1) if rng.random() < 0.25 else None  # noqa: E731
    return Meaning(
        [text(rng, 1) for _ in range(count)],
        [answer() for _ in range(count)],
        [answer() for _ in range(count)],
        rng.choice([None, *Winner]),
        part(),
        [(text(rng), text(rng)) for _ in range(rng.choice([0, 0, 1, 2]))],
        part(),
        part(),
    )


def with_parts(rng, said, row, skip=()):
    """The row with the columns that hold the parts of the prompt, in one of the spellings of each."""
    nothing = lambda: rng.choice([None, "", float("nan")])  # noqa: E731
    exchanges = [list(exchange) for exchange in said.history]
    talk = [m for q, a in said.history for m in ({"role": "user", "content": q}, {"role": "assistant", "content": a})]
    written = rng.choice([exchanges, talk]) if exchanges else []
    parts = {
        rng.choice(["system", "system_prompt"]): said.system or nothing(),
        rng.choice(["history", "messages"]): rng.choice([json.dumps(written), written]),
        "context": said.context or nothing(),
        "input": said.input or nothing(),
    }
    return row | {name: value for name, value in parts.items() if name not in skip}


def turns_of(rng, texts):
    return texts[0] if len(texts) == 1 and rng.random() < 0.7 else texts


def messages(rng, said, answers):
    """A conversation as a list of messages, or as JSON; a missing answer is null or not there."""
    found = []
    for n, (question, answer) in enumerate(zip(said.turns, answers, strict=True)):
        found.append({"role": "user", "content": rng.choice([question, [{"type": "text", "text": question}]])})
        if answer is not None or n + 1 < len(answers) or rng.random() < 0.5:
            found.append({"role": "assistant", "content": answer})
    return rng.choice([found, json.dumps(found)])


def arena(rng, said):
    return {"conversation_a": messages(rng, said, said.a), "conversation_b": messages(rng, said, said.b), **MODELS}


def canonical(rng, said):
    row = {"prompt": turns_of(rng, said.turns), "winner": said.winner and said.winner.value}
    return row | {"response_a": turns_of(rng, said.a), "response_b": turns_of(rng, said.b)}


def arena_55k(rng, said):
    cells = {"prompt": said.turns, "response_a": said.a, "response_b": said.b}
    won = [said.winner is winner for winner in Winner] if said.winner else [None] * 3
    write = rng.choice([json.dumps, list])
    one_hot = dict(zip(("winner_model_a", "winner_model_b", "winner_tie"), won, strict=True))
    return {name: write(value) for name, value in cells.items()} | one_hot


def arena_100k(rng, said):
    return arena(rng, said) | {"winner": said.winner and said.winner.value}


def arena_140k(rng, said):
    part = lambda role, words: words and {"role": role, "content": [{"type": "text", "text": words}]}  # noqa: E731
    now = zip(said.turns, said.a, said.b, strict=True)
    rounds = [(question, answer, answer) for question, answer in said.history] + list(now)
    session = [
        {
            "user": {"role": "user", "content": q},
            "model_side_a": part("assistant", a),
            "model_side_b": part("assistant", b),
        }
        for q, a, b in rounds
    ]
    return arena_100k(rng, said) | {"full_conversation": rng.choice([session, json.dumps(session)])}


def chatbot_arena(rng, said):
    return arena_100k(rng, said) | {"judge": "arena_user_1", "tstamp": 1.5}


def mt_bench(rng, said):
    return arena_100k(rng, said) | {"judge": "expert_1", "turn": rng.choice([len(said.turns), float(len(said.turns))])}


def chosen_rejected(rng, said):
    best, worst = (said.a[0], said.b[0]) if said.winner is Winner.MODEL_A else (said.b[0], said.a[0])
    better, worse = rng.choice([("chosen", "rejected"), ("chosen_response", "rejected_response")])
    return {rng.choice(["prompt", "instruction", "question"]): said.turns[0], better: best, worse: worst}


def alpaca_eval(rng, said):
    value = {Winner.MODEL_A: 1, Winner.MODEL_B: 2, Winner.TIE: 1.5, None: None}[said.winner]
    return {"instruction": said.turns[0], "output_1": said.a[0], "output_2": said.b[0], "preference": value}


def lm_eval(rng, said):
    return canonical(rng, said)


def best_and_worst(said):
    return (said.a[0], said.b[0]) if said.winner is Winner.MODEL_A else (said.b[0], said.a[0])


def llama_factory(rng, said):
    names = rng.choice([("from", "value", "human", "gpt"), ("role", "content", "user", "assistant")])
    say = lambda role, words: dict(zip(names[:2], (role, words), strict=True))  # noqa: E731
    best, worst = (say(names[3], words) for words in best_and_worst(said))
    return {"conversations": [say(names[2], said.turns[0])], "chosen": best, "rejected": worst}


def llama_factory_ranked(rng, said):
    return {"instruction": said.turns[0], "output": list(best_and_worst(said))}


def openai_preferences(rng, said):
    best, worst = ([{"role": "assistant", "content": words}] for words in best_and_worst(said))
    asked = {"messages": [{"role": "user", "content": said.turns[0]}], "tools": rng.choice([[], None])}
    return {"input": asked, "preferred_output": best, "non_preferred_output": worst}


def ms_swift(rng, said):
    best, worst = best_and_worst(said)
    talk = [{"role": "user", "content": said.turns[0]}, {"role": "assistant", "content": best}]
    return {"messages": talk, "rejected_response": worst}


def rewardbench2(rng, said):
    lists = ([words] for words in best_and_worst(said))
    return {"prompt": said.turns[0], **dict(zip(("chosen", "rejected"), lists, strict=True)), "num_correct": 1}


def rm_bench(rng, said):
    return rewardbench2(rng, said) | {"domain": rng.choice(["chat", "math"])}


def judgebench(rng, said):
    word = {Winner.MODEL_A: "A>B", Winner.MODEL_B: "B>A", Winner.TIE: "A=B", None: None}[said.winner]
    return {"question": said.turns[0], "response_A": said.a[0], "response_B": said.b[0], "label": word}


def llmbar(rng, said):
    number = {Winner.MODEL_A: [1, 1.0, "1"], Winner.MODEL_B: [2, 2.0, "2"], None: [None, float("nan")]}[said.winner]
    return {"input": said.turns[0], "output_1": said.a[0], "output_2": said.b[0], "label": rng.choice(number)}


def ppe(rng, said):
    words = {Winner.MODEL_A: ["model_a", "model_1"], Winner.MODEL_B: ["model_b", "model_2"]}
    word = rng.choice({**words, Winner.TIE: ["tie", "tie (bothbad)"], None: [None]}[said.winner])
    return {"prompt": said.turns[0], "response_1": said.a[0], "response_2": said.b[0], "winner": word}


def helpsteer2(rng, said):
    row = helpsteer3(rng, said)
    texts = {"prompt": row["context"], "response_1": row["response1"], "response_2": row["response2"]}
    return {**texts, "preference_strength": row["overall_preference"], "preference_statement": None}


def helpsteer3(rng, said):
    strengths = {Winner.MODEL_A: [-3, -1.0], Winner.MODEL_B: [1, 2, 3], Winner.TIE: [0], None: [None]}[said.winner]
    context = rng.choice([said.turns[0], [{"role": "user", "content": said.turns[0]}]])
    answers = {"response1": said.a[0], "response2": said.b[0]}
    return {"context": context, **answers, "overall_preference": rng.choice(strengths)}


def pku_saferlhf(rng, said):
    number = {Winner.MODEL_A: 0, Winner.MODEL_B: 1, None: None}[said.winner]
    answers = {"response_0": said.a[0], "response_1": said.b[0]}
    return {"prompt": said.turns[0], **answers, "better_response_id": number}


def shp(rng, said):
    label = {Winner.MODEL_A: 1, Winner.MODEL_B: 0, None: None}[said.winner]
    return {"history": said.turns[0], "human_ref_A": said.a[0], "human_ref_B": said.b[0], "labels": label}


def webgpt(rng, said):
    scores = {
        Winner.MODEL_A: [(0.5, -0.5)],
        Winner.MODEL_B: [(-1, 1)],
        Winner.TIE: [(0, 0)],
        None: [(None, 1), (None,) * 2],
    }
    a, b = rng.choice(scores[said.winner])
    question = {"full_text": said.turns[0], "dataset": "eli5", "id": "7"}
    return {"question": question, "answer_0": said.a[0], "answer_1": said.b[0], "score_0": a, "score_1": b}


def summaries(rng, said):
    said.turns[0] += "\n\nTL;DR:"  # the article alone is not the prompt
    info = {"article": said.turns[0].removesuffix("\n\nTL;DR:"), "post": rng.choice([None, "y"])}
    texts = [{"text": said.a[0], "policy": "sup1"}, {"text": said.b[0], "policy": "ref", "note": None}]
    choice = {Winner.MODEL_A: 0, Winner.MODEL_B: 1.0, None: None}[said.winner]
    return {"info": info, "summaries": texts, "choice": choice}


def multipref(rng, said):
    words = {
        Winner.MODEL_A: ["A-is-clearly-better", "A-is-slightly-better"],
        Winner.MODEL_B: ["B-is-clearly-better", "B-is-slightly-better"],
        Winner.TIE: ["Tie"],
    }
    most = [rng.choice(words[said.winner]) for _ in range(3)] if said.winner else []
    others = [rng.choice(rng.choice(list(words.values())))] if said.winner else []
    said_by_four = rng.sample(most + others, k=len(most + others))
    votes = [{"overall_pref": word, "evaluator": f"w{n}"} for n, word in enumerate(said_by_four)]
    answers = {"text": said.turns[0], "completion_a": said.a[0], "completion_b": said.b[0]}
    return {**answers, "normal_worker_annotations": votes[:2], "expert_worker_annotations": votes[2:] or None}


def comparia(rng, said):
    chosen = {Winner.MODEL_A: "heron", Winner.MODEL_B: "stork"}.get(said.winner, rng.choice([None, float("nan")]))
    names = {"model_a_name": "heron", "model_b_name": "stork", "chosen_model_name": chosen}
    row = {name: value for name, value in arena(rng, said).items() if name not in MODELS}
    return row | names | {"both_equal": said.winner is Winner.TIE or rng.choice([False, None])}


def ranked(rng, said, text, measure, best, worst):
    a, b = {
        Winner.MODEL_A: (best, worst),
        Winner.MODEL_B: (worst, best),
        Winner.TIE: (best, best),
        None: rng.choice([(None, best), (None, None)]),
    }[said.winner]
    entries = [{text: said.a[0], measure: a, "model": "heron"}, {text: said.b[0], measure: b}]
    rng.shuffle(entries)
    return rng.choice([entries, json.dumps(entries)])


def ultrafeedback(rng, said):
    return {"instruction": said.turns[0], "completions": ranked(rng, said, "response", "overall_score", 8.5, 2)}


def nectar(rng, said):
    return {"prompt": said.turns[0], "answers": ranked(rng, said, "answer", "rank", 1.0, 7.0)}


BATTLES = {"arena_100k", "arena_140k", "chatbot_arena", "mt_bench", "comparia"}
SEVERAL_TURNS = {"canonical", "arena_55k", "lm_eval", *BATTLES}
BETTER_AND_WORSE = {
    *("chosen_rejected", "openai_preferences", "ms_swift"),
    *("llama_factory", "llama_factory_ranked", "rewardbench2", "rm_bench"),
}
SIDES_ARE_DRAWN = {*BETTER_AND_WORSE, "ultrafeedback", "nectar"}
NO_TIES = {"llmbar", "pku_saferlhf", "shp", "summaries"}
SKIPPED = {  # parts of a prompt that stand in no column of their own in such rows
    "arena_140k": ("history", "messages"),
    "llmbar": ("input",),
    "helpsteer3": ("context",),
    "openai_preferences": ("input",),
    "ms_swift": ("history", "messages"),
    "shp": ("history", "messages"),
}
MAKERS = {
    f.__name__: f
    for f in (
        canonical,
        arena_55k,
        arena_100k,
        arena_140k,
        chatbot_arena,
        mt_bench,
        chosen_rejected,
        openai_preferences,
        ms_swift,
        alpaca_eval,
        lm_eval,
        llama_factory,
        llama_factory_ranked,
        rewardbench2,
        rm_bench,
        judgebench,
        llmbar,
        ppe,
        helpsteer2,
        helpsteer3,
        pku_saferlhf,
        shp,
        webgpt,
        summaries,
        multipref,
        comparia,
        ultrafeedback,
        nectar,
    )
}
EXTRA = {"source": "web", "lang": None, "note": "\u2028", "score_of_style": 0.5, "list": [1], "nested": {"x": None}}


def made(rng, format):
    """What a row means, and the row: its columns in a random order, with others beside them."""
    said = meaning(rng, format in SEVERAL_TURNS)
    if format in BETTER_AND_WORSE:
        said.winner = rng.choice([Winner.MODEL_A, Winner.MODEL_B])
    if format in NO_TIES:
        said.winner = None if said.winner is Winner.TIE else said.winner
    if format == "arena_140k":
        said.history = [(q, a) for q, a in said.history if a and q not in said.turns]
    skip = SKIPPED.get(format, ())
    for own in {"input", "context"} & set(skip):  # the column of the prompt itself
        setattr(said, own, None)
    for part in ("context", "input"):  # what repeats the prompt is read once
        if (getattr(said, part) or "").strip() == "\n".join(said.turns).strip():
            setattr(said, part, None)
    if format in ("ms_swift", "shp"):
        said.history = []
    row = with_parts(rng, said, MAKERS[format](rng, said), skip)
    row |= dict(rng.sample(sorted(EXTRA.items()), k=rng.randrange(len(EXTRA))))
    if format == "lm_eval":
        row = {"doc": row, "resps": [["0"]], "filter": "none"}
    columns = list(row.items())
    rng.shuffle(columns)
    return said, dict(columns)
