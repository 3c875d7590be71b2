"""How a served judge is opened: its key, its server's version and model, the handshake."""

from contextlib import ExitStack
from pathlib import Path

from harness_plugin.judges.served.api_key import key_for
from harness_plugin.judges.served.budget import Budget, BudgetSpent
from harness_plugin.judges.served.chat import Chat, completed, negotiated, parameters
from harness_plugin.judges.served.chat_prompt import read_chat_prompt
from harness_plugin.judges.served.client import Client
from harness_plugin.judges.served.dialect import Dialect
from harness_plugin.judges.served.handshake import no_answer
from harness_plugin.judges.served.judge import ServedJudge, over_before
from harness_plugin.judges.served.models import served_model
from harness_plugin.judges.served.pace import Pace
from harness_plugin.judges.served.sglang import Sglang
from harness_plugin.judges.served.states import Unusable
from harness_plugin.judges.served.system_one import SystemOne, path_after
from harness_plugin.judges.served.vllm import Vllm, check_version
from harness_plugin.model import ModelSpec
from harness_plugin.model.calibration import Calibration
from harness_plugin.model.naming import CHAT, DECISIONS, Address
from harness_plugin.model.spec import ANSWER_TOKENS, CONCURRENCY, TIMEOUT
from harness_plugin.scoring.store import ScoreCache, default_file

# How many of the handshake's PROBES a judge is asked about, with two calls each.
PROBED, PROBED_CLASSIFIER = {CHAT: 1, DECISIONS: 1}, 3  # a classifier costs little


def open_served(spec: ModelSpec, address: Address, order: str, store: ScoreCache | str | Path | None) -> ServedJudge:
    """The judge at an address, after its handshake. `store`: where its answers are kept, by default in the home folder
    of arena-rm. Raises UsageError for settings that it cannot have, ModelError for a server that is not there, has
    another model, or gives wrong scores, and ScoreError where the budget does not allow the handshake."""
    budget = Budget(spec.max_calls, spec.max_tokens)
    pace = Pace(spec.calls_per_minute)
    client = Client(address.url, key_for(address.server, address.url), budget, pace, spec.timeout or TIMEOUT)
    dialect = _dialect(spec, address, client)
    with ExitStack() as opened:
        if not isinstance(store, ScoreCache):
            store = opened.enter_context(ScoreCache(store or default_file()))
        name = judge_name(address)
        concurrency = spec.concurrency or CONCURRENCY[address.server]
        judge = ServedJudge(dialect, client, store, order, concurrency, name)
        judge.meet(PROBED.get(address.server, PROBED_CLASSIFIER))
        judge.keep_open(opened.pop_all())
    return judge


def judge_name(address: Address) -> str:
    """What a served judge is called on the log and in errors."""
    return f"{address.server}:{address.url}"


def _dialect(spec: ModelSpec, address: Address, client: Client) -> Dialect:
    """What is asked of this server, and how."""
    calibration = Calibration(1.0 if spec.temperature is None else spec.temperature, spec.tie_nu or 0.0)
    if address.server == CHAT:
        model = str(address.model)  # `served_at` wants one
        answer_tokens = spec.answer_tokens or ANSWER_TOKENS
        chat = Chat(model, read_chat_prompt(spec.judge_prompt), calibration, answer_tokens, parameters(answer_tokens))
        try:
            return negotiated(chat, lambda question: client.ask(question, completed))
        except BudgetSpent as e:
            raise over_before(e.limit) from e
        except Unusable as e:
            raise no_answer(judge_name(address), e) from e
    if address.server == DECISIONS:
        return SystemOne(path_after(address.url), served_model(client, address.model), calibration)
    return _classifier(spec, address, client)


def _classifier(spec: ModelSpec, address: Address, client: Client) -> Dialect:
    from harness_plugin.model.served_files import read_served_files

    model = served_model(client, address.model)
    if address.server == "vllm":
        check_version(client)
        return Vllm(read_served_files(spec), model)
    return Sglang(read_served_files(spec), model)
