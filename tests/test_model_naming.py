"""One name for any judge: which place it takes, and what is refused beside it."""

import pytest
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from harness_plugin.comparison.named import named_judges
from harness_plugin.errors import ModelError, UsageError
from harness_plugin.judges import open_judge
from harness_plugin.model import ModelSpec
from harness_plugin.model.naming import Address, served_at
from harness_plugin.model.several import judge_spec, several_of


def test_a_folder_is_an_adapter_or_a_whole_model(tiny_base, tiny_adapter):
    adapter, whole = str(tiny_adapter("gemma")), str(tiny_base("gemma"))
    assert ModelSpec(judge=adapter).resolved() == ModelSpec(peft=adapter)
    assert ModelSpec(judge=whole, kind="pair").resolved() == ModelSpec(pretrained=whole, kind="pair")
    assert ModelSpec(judge="embedded", dtype="float32").resolved() == ModelSpec(dtype="float32")
    assert ModelSpec(peft=adapter).resolved() == ModelSpec(peft=adapter)


def test_a_judge_by_one_name_is_the_judge_by_its_adapter(tiny_adapter, pairs):
    adapter = str(tiny_adapter("gemma"))
    alike = {"dtype": "float32", "device": "cpu"}
    with open_judge(judge=adapter, **alike) as one, open_judge(peft=adapter, **alike) as other:
        assert one.identity == other.identity and one.hash == other.hash
        assert [j.z_ab for j in one.judge(pairs[:3])] == [j.z_ab for j in other.judge(pairs[:3])]


@pytest.mark.parametrize(
    ("answer", "place"), [(None, "peft"), (EntryNotFoundError("none"), "pretrained")], ids=["adapter", "whole"]
)
def test_of_a_hub_id_the_hub_says_what_it_is(monkeypatch, answer, place):
    def asked(repository, file):
        assert (repository, file) == ("someone/judge", "adapter_config.json")
        if answer:
            raise answer

    monkeypatch.setattr("huggingface_hub.hf_hub_download", asked)
    assert ModelSpec(judge="someone/judge").resolved() == ModelSpec(**{place: "someone/judge"})


def test_without_the_hub_a_whole_model_that_is_here_is_recognised_and_others_are_refused(monkeypatch):
    def offline(repository, file):
        raise LocalEntryNotFoundError("no network")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", offline)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda name, file: "/x/config.json")
    assert ModelSpec(judge="someone/judge").resolved().pretrained == "someone/judge"
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda name, file: None)
    with pytest.raises(ModelError, match=r"no folder 'someone/judge' here.*not downloaded before"):
        ModelSpec(judge="someone/judge").resolved()
    with pytest.raises(ModelError, match="no folder"):
        ModelSpec(judge="/no/such/folder/anywhere").resolved()


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("vllm:http://gpu:8000/", Address("vllm", "http://gpu:8000", None)),
        ("sglang:http://[::1]:30000", Address("sglang", "http://[::1]:30000", None)),
        (
            "openai:https://api.example.org/v1#org/big-model",
            Address("openai", "https://api.example.org/v1", "org/big-model"),
        ),
        ("systemone:http://127.0.0.1:8080#jev-1", Address("systemone", "http://127.0.0.1:8080", "jev-1")),
        ("vllm:http://gpu:8000#adapter", Address("vllm", "http://gpu:8000", "adapter")),
        ("someone/judge", None),
        ("embedded", None),
        ("folders/with:a-colon", None),
        (f"systemone:http://host/{'l' * 300}/v1", Address("systemone", f"http://host/{'l' * 300}", None)),
        ("vllm:http://gpu:8000/v1/#adapter", Address("vllm", "http://gpu:8000", "adapter")),
        ("sglang:http://gpu:30000/api/v1", Address("sglang", "http://gpu:30000/api", None)),
    ],
)
def test_the_address_of_a_served_judge(name, address):
    assert served_at(name) == address


@pytest.mark.parametrize(
    "name",
    [
        "openai:https://user:sk-secret@host/v1#m",
        "openai:https://sk-secret@host/v1#m",
        "openai:https://host/v1?api_key=sk-secret#m",
        "vllm:http://host?key=sk-secret",
        "systemone:http://:sk-secret@host",
    ],
)
def test_a_key_in_a_url_is_refused_and_not_repeated(name):
    with pytest.raises(UsageError, match="keys in URLs end up in logs") as error:
        ModelSpec(judge=name, peft="x" if name.startswith("vllm") else None)
    assert "sk-secret" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"judge": "ollama:http://host"}, "a URL without the kind of its server"),
        ({"judge": "http://host:8000"}, "a URL without the kind of its server"),
        ({"judge": "vllm:"}, "without a usable URL"),
        ({"judge": "vllm:host:8000"}, "without a usable URL"),
        ({"judge": "vllm:http://host:99999"}, "without a usable URL"),
        ({"judge": "vllm:http://[host"}, "without a usable URL"),
        ({"judge": "openai:http://host/v1"}, "names no model"),
        ({"judge": "vllm:http://host"}, "without peft or pretrained"),
        ({"judge": "openai:http://host#m", "peft": "x"}, "needs no tokenizer"),
        ({"judge": "embedded", "peft": "x"}, "each of them names a judge"),
        ({"judge": "a/b", "pretrained": "x"}, "each of them names a judge"),
    ],
)
def test_names_that_say_no_judge_are_refused(settings, said):
    with pytest.raises(UsageError, match=said):
        ModelSpec.from_args(settings)


@pytest.mark.parametrize("place", ["judge", "pretrained", "peft"])
@pytest.mark.parametrize("name", ["", "  "])
def test_an_empty_name_is_refused_and_means_no_folder(place, name):
    with pytest.raises(UsageError, match=f"{place} is empty"):
        ModelSpec(**{place: name})


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("peft=x,peft=y", "peft is there twice"),
        ("peft=x,device=cpu,peft=x", "peft is there twice"),
        ("device=cpu,", "no setting follows a ','; settings are NAME=VALUE, with ',' between them"),
        ("device=cpu,,dtype=int8", "no setting follows a ','"),
        ("peft=my,adapter", "'adapter' is no setting"),
        ("peft=x,=cpu", "'=cpu' is no setting"),
    ],
)
def test_settings_in_a_name_that_do_not_say_one_judge_are_refused(name, said):
    with pytest.raises(UsageError, match=said):
        judge_spec(name, ModelSpec())
    with pytest.raises(UsageError, match=said.replace(",", ";").replace("VALUE;", "VALUE,")):
        several_of(ModelSpec(judge=f"panel:embedded+{name.replace(',', ';')}"))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("samples=here,samples=there", "samples is there twice"),
        ("samples=here,", "no setting follows"),
        ("task=arena_pairs", "no samples are named"),
        ("samples=,task=arena_pairs", "no samples are named"),
    ],
)
def test_settings_of_stored_samples_are_read_as_those_of_a_judge(name, said):
    with pytest.raises(UsageError, match=said):
        named_judges([name], ModelSpec())
