"""Chat templates of our own and chats for them; shared by the recorder and the tests.

The templates use what those of published models use: namespaces, loop controls, slices, macros, filters, tests, the generation tag.
"""

from typing import Any

__all__ = ["CASES", "SPECIAL", "TEMPLATES", "weather"]

Json = dict[str, Any]

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}

TEMPLATES: dict[str, str] = {
    "tags": (
        "{%- if messages[0].role == 'system' %}\n    {{- '<|system|>' + messages[0].content + eos_token }}\n{%- endif %}\n"
        "{%- for message in messages %}\n    {%- if message.role == 'system' %}{% continue %}{% endif %}\n"
        "    {{- '<|' + message.role + '|>\\n' + message.content + eos_token + '\\n' }}\n{%- endfor %}\n"
        "{%- if add_generation_prompt %}\n    {{- '<|assistant|>\\n' }}\n{%- endif %}"
    ),
    "strict": (
        "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('roles must alternate') }}{% endif %}"
        "{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
        "{{ '<turn>' + role + '\n' + message['content'] | trim + '<end>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{'<turn>model\n'}}{% endif %}"
    ),
    "thinking": (
        "{%- set ns = namespace(last=messages|length - 1) %}\n"
        "{%- for message in messages[::-1] %}\n    {%- set index = (messages|length - 1) - loop.index0 %}\n"
        "    {%- if message.role == 'user' %}{%- set ns.last = index %}{%- break %}{%- endif %}\n{%- endfor %}\n"
        "{%- for message in messages %}\n    {%- set content = message.content if message.content is string else '' %}\n"
        "    {%- if message.role == 'assistant' and loop.index0 < ns.last and '</think>' in content %}\n"
        "        {%- set content = content.split('</think>')[-1].lstrip('\\n') %}\n    {%- endif %}\n"
        "    {{- '[' + message.role + '] ' + content + '\\n' }}\n{%- endfor %}\n"
        "{%- if add_generation_prompt %}\n    {{- '[assistant] ' }}\n"
        "    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think></think>' }}{%- endif %}\n{%- endif %}"
    ),
    "tools": (
        "{%- macro listed(items) %}{% for item in items %}{{ item | tojson }}{% if not loop.last %}, {% endif %}{% endfor %}"
        "{%- endmacro %}\n"
        "{% if tools %}tools: {{ listed(tools) }}\n{{ tools[0] | tojson(indent=2) }}\n{% endif %}\n"
        "{% if documents %}documents: {% for d in documents %}{{ d.title }}: {{ d.text }}; {% endfor %}{% endif %}\n"
        "   {% for message in messages %}\n"
        "{{ message.role }}: {{ message.content if message.content is not none }}"
        "{% for call in message.tool_calls or [] %}<{{ call.function.name }}>{{ call.function.arguments | tojson }}{% endfor %}\n"
        "{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
    ),
    "generation": (
        "{% for message in messages %}{% if message.role == 'assistant' %}"
        "{% generation %}{% set said = message.content %}A {{ said }}{{ eos_token }}{% endgeneration %}"
        "{% else %}U {{ message.content }}\n{% endif %}{% endfor %}{% if add_generation_prompt %}A {% endif %}"
    ),
    "parts": (
        "{% for message in messages %}{{ message.role }}: {% if message.content is string %}{{ message.content }}{% else %}"
        "{% for part in message.content %}{{ part.text if part.type == 'text' else '<' + part.type + '>' }}{% endfor %}{% endif %}\n"
        "{% endfor %}"
    ),
    "trimming": "{% for message in messages %}{{ message.role }}={{ message.content.strip() }};{% endfor %}",
    "silent": "{% for message in messages %}{{ message.role }};{% endfor %}",
    "broken": "{% for message in messages %}{{ message.role }",
    "greedy": "{{ messages.__class__.__mro__ }}",
    "changing": "{% set _ = messages.append(1) %}x",
}


def weather(city: str, days: int = 3, unit: str | None = None, shares: list[float] | None = None) -> dict[str, float]:
    """Say what the weather will be.

    Args:
        city: Where, with
            its country
        days: How many (choices: ["1", "3"])
        unit: C or F
        shares: Any <numbers>

    Returns:
        Degrees by day.
    """
    return {f"{city} {days} {unit} {shares}": 1.0}


def _message(role: str, content: Any, **more: Any) -> Json:
    return {"role": role, "content": content, **more}


_CHATS: dict[str, list[Json]] = {
    "one": [_message("user", 'Is 1 < 2 & "so"? é 日本')],
    "system": [_message("system", "Be brief."), _message("user", "Hi")],
    "turns": [_message("user", "a"), _message("assistant", "<think>hm</think>\n\nb"), _message("user", " c ")],
    "prefill": [_message("user", "a"), _message("assistant", "  The answer is ")],
    "doubled": [_message("user", "a"), _message("user", "b")],
    "calls": [
        _message("user", "w?"),
        _message(
            "assistant", None, tool_calls=[{"type": "function", "function": {"name": "f", "arguments": {"ü": "<1>"}}}]
        ),
        _message("tool", "42", name="f"),
    ],
    "parts": [
        _message("user", [{"type": "text", "text": "see "}, {"type": "image"}]),
        _message("assistant", [{"type": "text", "text": "I see "}]),
    ],
}
_TOOL = {
    "type": "function",
    "function": {
        "name": "f",
        "description": "does <f>",
        "parameters": {"type": "object", "properties": {"x": {"type": "integer"}}},
    },
}
_DOCUMENTS = [{"title": "T", "text": "x & y"}]


def _cases() -> list[Json]:
    found = []
    for template in TEMPLATES:
        for chat in _CHATS:
            for opens, continues in ((True, False), (False, False), (False, True)):
                found.append(
                    {"template": template, "chat": _CHATS[chat], "opens": opens, "continues": continues, "more": {}}
                )
    for template, more in (
        ("tools", {"tools": [_TOOL]}),
        ("tools", {"tools": [_TOOL, "weather"], "documents": _DOCUMENTS}),
        ("tools", {"documents": _DOCUMENTS}),
        ("thinking", {"enable_thinking": False}),
        ("tags", {"eos_token": "<end>"}),
    ):
        found.append({"template": template, "chat": _CHATS["one"], "opens": True, "continues": False, "more": more})
    return found


CASES = _cases()
