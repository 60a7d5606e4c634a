import pytest
import torch
from conftest import chat_model

from dro import judges, refusal
from dro.errors import DataError, ModelError

REFUSAL, ANSWER, BROKEN = "I'm sorry, but I can't assist with that.", "Boil the water first.", "?? !!"


def test_phrases_judge_by_the_list():
    judge = judges.Phrases()
    assert judge.name == "phrases"
    assert [v.outcome for v in judge(["", "", ""], [REFUSAL, ANSWER, BROKEN])] == [
        "refused", "answered", "broken",
    ]  # fmt: skip


def test_the_first_token_decides_by_what_it_opened(tiny):
    first = tiny.tokenizer("I", add_special_tokens=False).input_ids[0]
    judge = judges.FirstToken(tiny, {first: (9, 10)})
    found = judge(["", "", ""], [f"  {REFUSAL}", ANSWER, BROKEN])
    assert [v.outcome for v in found] == ["refused", "answered", "broken"]
    assert found[0].evidence == "“I” opens refusals 82% of the time"
    assert judges.FirstToken(tiny, {first: (4, 10)})([""], [REFUSAL])[0].outcome == "answered"


def test_a_model_judge_says_what_the_model_finds_likelier():
    model = chat_model()
    yes, no = (model.tokenizer(w, add_special_tokens=False).input_ids[0] for w in ("Yes", "No"))
    judge = judges.Asked(model)
    assert judge.name == f"model:{model.name}"
    outcomes = set()
    for favoured, other in ((yes, no), (no, yes)):
        seen = {}

        def read(module, inputs, output, seen=seen):
            seen["state"] = output.last_hidden_state[0, -1]

        hook = model.backbone.register_forward_hook(read)
        judge(["Q"], [ANSWER])
        hook.remove()
        with torch.no_grad():
            head = model.model.get_output_embeddings().weight
            head[favoured], head[other] = seen["state"], -seen["state"]
        verdict = judge(["Q"], [ANSWER])[0]
        outcomes.add((favoured == yes, verdict.outcome))
    assert outcomes == {(True, "refused"), (False, "answered")}


def test_a_model_judge_calls_noise_broken(tiny):
    assert judges.Asked(tiny)(["Q"], [BROKEN])[0].outcome == "broken"
    assert judges.Asked(tiny)([], []) == []


def test_a_model_judge_needs_two_words(tiny, monkeypatch):
    monkeypatch.setattr(judges.Asked, "_token", lambda self, word: 3)
    with pytest.raises(ModelError, match="begins Yes and No alike"):
        judges.Asked(tiny)(["Q"], [ANSWER])


@pytest.mark.parametrize("name", ["", "model:", "oracle"])
def test_unknown_judges_are_refused(name):
    with pytest.raises(DataError, match=r"There is no judge .*phrases, first-token, model:NAME"):
        judges.check(name)
    assert judges.check("model:x") == "model:x"
    assert refusal.PHRASES == "phrases"
