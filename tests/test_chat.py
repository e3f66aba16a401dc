"""Chats to prompts beside the recorded ones of transformers 4.57.6, and what is said of chats that cannot be."""

import copy
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from chat_cases import CASES, SPECIAL, TEMPLATES, weather

from edgenlp.chat import _compiled, check_messages, is_chat, render, schema_of
from edgenlp.errors import DependencyError, InputError

PROMPTS: list[str | None] = json.loads(
    (Path(__file__).parent / "data" / "goldens" / "chat.json").read_text(encoding="utf-8")
)["prompts"]
USER = [{"role": "user", "content": "hi"}]


def rendered(case: dict[str, Any]) -> str:
    more = dict(case["more"])
    if "tools" in more:
        more["tools"] = [weather if tool == "weather" else tool for tool in more["tools"]]
    return render(
        case["chat"],
        {"default": TEMPLATES[case["template"]]},
        special=SPECIAL,
        add_generation_prompt=case["opens"],
        continue_final_message=case["continues"],
        **more,
    )


def test_prompts_of_transformers() -> None:
    assert len(PROMPTS) == len(CASES)
    assert sum(prompt is not None for prompt in PROMPTS) > len(CASES) // 2
    for case, expected in zip(CASES, PROMPTS, strict=True):
        before = copy.deepcopy(case)
        if expected is None:
            with pytest.raises(InputError):
                rendered(case)
        else:
            assert rendered(case) == expected, case
        assert case == before


def test_templates_by_name() -> None:
    templates = {"default": "d", "tool_use": "t", "rag": "r {{ documents[0].text }}"}
    tool = {"name": "f"}
    assert render(USER, templates) == "d"
    assert render(USER, templates, tools=[tool]) == "t"
    assert render(USER, templates, template="rag", documents=[{"text": "x"}]) == "r x"
    assert render(USER, templates, template="{{ messages[0].content }}!") == "hi!"
    assert render(USER, {"default": "d"}, tools=[tool]) == "d"
    with pytest.raises(InputError, match="name one of rag"):
        render(USER, {"rag": "r"})
    with pytest.raises(InputError, match="has no chat template"):
        render(USER, {})


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([], "at least one message"),
        ("hi", "at least one message"),
        (["hi"], "message 1 must be a dict"),
        ([{"role": "user"}], "message 1 has no 'content'"),
        ([*USER, {"content": "x"}], "message 2 has no 'role'"),
        ([{"role": 3, "content": "x"}], "role of message 1 must be a string"),
    ],
)
def test_malformed_messages(messages: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        check_messages(messages)


def test_errors_say_what_the_template_said() -> None:
    with pytest.raises(InputError, match="roles must alternate"):
        render([*USER, *USER], {"default": TEMPLATES["strict"]}, special=SPECIAL)
    with pytest.raises(InputError, match="no valid Jinja"):
        render(USER, {"default": TEMPLATES["broken"]})
    with pytest.raises(InputError, match="not both"):
        render(USER, {"default": "x"}, add_generation_prompt=True, continue_final_message=True)
    with pytest.raises(InputError, match="leaves out the last message"):
        render(USER, {"default": TEMPLATES["silent"]}, continue_final_message=True)
    with pytest.raises(InputError, match="needs text in the last message"):
        render([{"role": "user", "content": None}], {"default": "x"}, continue_final_message=True)
    with pytest.raises(InputError, match="tools must be a list"):
        render(USER, {"default": "x"}, tools={"name": "f"})  # type: ignore[arg-type]
    with pytest.raises(InputError, match="a tool is a JSON schema"):
        render(USER, {"default": "x"}, tools=["f"])  # type: ignore[list-item]
    with pytest.raises(InputError, match="documents are dicts"):
        render(USER, {"default": "x"}, documents=["f"])  # type: ignore[list-item]


@pytest.mark.parametrize(
    "template",
    [
        TEMPLATES["greedy"],
        TEMPLATES["changing"],
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ raise_exception.__globals__ }}",
        "{% for i in range(1000000000) %}{% endfor %}",
        "{% include '/etc/passwd' %}",
        "{{ messages[0].content | attr('__class__') | attr('mro') }}",
    ],
)
def test_templates_run_in_a_sandbox(template: str) -> None:
    try:
        text = render(USER, {"default": template})
    except InputError:
        return
    assert text == ""


def test_without_jinja(monkeypatch: pytest.MonkeyPatch) -> None:
    _compiled.cache_clear()
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(DependencyError, match=r"pip install 'edgenlp\[chat\]'"):
        render(USER, {"default": "x"})
    monkeypatch.undo()
    assert render(USER, {"default": "x"}) == "x"


def test_functions_as_tools() -> None:
    schema = schema_of(weather)["function"]
    assert schema["name"] == "weather"
    assert schema["parameters"]["required"] == ["city"]
    assert schema["parameters"]["properties"]["days"]["enum"] == ["1", "3"]
    assert schema["return"]["description"] == "Degrees by day."

    def bare(x: int) -> None: ...

    def undescribed(x: int) -> None:
        """Do."""

    def unhinted(x) -> None:  # type: ignore[no-untyped-def]  # that is what is tested
        """Do.

        Args:
            x: What.
        """

    def odd(x: set[int]) -> None:
        """Do.

        Args:
            x: What.
        """

    for function, words in (
        (bare, "no docstring"),
        (undescribed, "not described"),
        (unhinted, "no type hint"),
        (odd, "without a counterpart"),
    ):
        with pytest.raises(InputError, match=words):
            schema_of(function)


def test_what_is_a_chat() -> None:
    assert is_chat(USER)
    assert is_chat(tuple(USER))
    assert not is_chat([USER])
    assert not is_chat([])
    assert not is_chat("hi")
