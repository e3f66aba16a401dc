"""Messages to the text of a prompt, through a checkpoint's own Jinja template. Knows no tokenizer and no model.

Templates render as `apply_chat_template` of transformers 4.57 renders them: in a sandbox, with the same settings, filters
and names. Needs the extra `[chat]`, and only once a template is rendered.
"""

import copy
import functools
import inspect
import json
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

from edgenlp.errors import DependencyError, InputError

__all__ = ["Messages", "check_messages", "is_chat", "render", "schema_of"]

Messages = Sequence[Mapping[str, Any]]

# What Python raises inside a template where a message is not as the template expects it
_WITHIN = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
_MARK = "CONTINUE_FINAL_MESSAGE_TAG "  # templates may trim the end of a message, so the mark ends with what they trim
_JSON_TYPES = {int: "integer", float: "number", str: "string", bool: "boolean", type(None): "null"}


def is_chat(value: object) -> bool:
    """Whether `value` is one chat: a list or tuple of messages."""
    return isinstance(value, list | tuple) and bool(value) and isinstance(value[0], Mapping)


def check_messages(messages: object) -> list[dict[str, Any]]:
    """`messages` as a list of its own.

    Raises:
        InputError: It is empty, or an element is no message with a role and content.
    """
    if not isinstance(messages, list | tuple) or not messages:
        raise InputError(f"a chat is a list of at least one message, found {_name(messages)}")
    for number, message in enumerate(messages, 1):
        if not isinstance(message, Mapping):
            raise InputError(f"message {number} must be a dict with 'role' and 'content', found {_name(message)}")
        if missing := [key for key in ("role", "content") if key not in message]:
            raise InputError(f"message {number} has no {missing[0]!r}: every message needs 'role' and 'content'")
        if not isinstance(message["role"], str):
            raise InputError(f"the role of message {number} must be a string, found {_name(message['role'])}")
    return [dict(message) for message in messages]


def render(
    messages: Messages,
    templates: Mapping[str, str],
    *,
    special: Mapping[str, str] | None = None,
    template: str | None = None,
    add_generation_prompt: bool = False,
    continue_final_message: bool = False,
    tools: Sequence[Mapping[str, Any] | Callable[..., Any]] | None = None,
    documents: Sequence[Mapping[str, Any]] | None = None,
    **variables: Any,
) -> str:
    """The prompt that a chat becomes.

    Args:
        messages: `{"role", "content", ...}`, as the template knows them.
        templates: The checkpoint's, by name.
        special: Names of special tokens in templates ("bos_token") to the tokens.
        template: Name of one of `templates`, or a template itself; None for "tool_use" where there are tools and such a
            template, else "default".
        add_generation_prompt: End with what opens the assistant's answer.
        continue_final_message: Leave the last message open, so that it is gone on with.
        tools: JSON schemas of functions, or Python functions with type hints and a docstring in Google's style.
        documents: Dicts, usually with "title" and "text".
        **variables: Whatever else the template asks for ("enable_thinking").

    Raises:
        InputError: There is no template, or it does not take these messages.
        DependencyError: jinja2 is not installed.
    """
    chat = check_messages(messages)
    if add_generation_prompt and continue_final_message:
        raise InputError(
            "a prompt either opens a new message or goes on with the last one: give add_generation_prompt or"
            " continue_final_message, not both"
        )
    given = {
        "tools": None if tools is None else [_tool(tool) for tool in _listed(tools, "tools")],
        "documents": None if documents is None else [_document(item) for item in _listed(documents, "documents")],
        "add_generation_prompt": add_generation_prompt,
    }
    source = _choose(templates, template, with_tools=tools is not None)
    final = _mark_final(chat) if continue_final_message else ""
    text = _rendered(source, {**(special or {}), **variables, **given, "messages": chat})
    return _open_end(text, final) if continue_final_message else text


def _choose(templates: Mapping[str, str], template: str | None, *, with_tools: bool) -> str:
    if template is not None:
        return templates.get(template, template)
    if with_tools and "tool_use" in templates:
        return templates["tool_use"]
    if "default" in templates:
        return templates["default"]
    if templates:
        raise InputError(f"the model has no default chat template; name one of {', '.join(sorted(templates))}")
    raise InputError("the model has no chat template: give a text instead of messages, or chat_template=... in Jinja")


def _rendered(source: str, variables: Mapping[str, Any]) -> str:
    compiled, failures = _compiled(source)
    try:
        return str(compiled.render(**variables))
    except failures as error:
        raise InputError(f"the chat template refused these messages: {error}") from error
    except _WITHIN as error:
        raise InputError(
            f"the chat template cannot read these messages ({_name(error)}: {error}); look at their roles and contents"
        ) from error


@functools.lru_cache(maxsize=16)
def _compiled(source: str) -> tuple[Any, type[Exception]]:
    """A template ready to render, and what it raises."""
    try:
        import jinja2
        import jinja2.ext
        import jinja2.nodes
        import jinja2.parser
        import jinja2.sandbox
    except ModuleNotFoundError as error:
        raise DependencyError("chats need jinja2, which is not installed: pip install 'edgenlp[chat]'") from error

    class Generation(jinja2.ext.Extension):
        """`{% generation %}`, by which training marks what the assistant says; the text inside is rendered as it is."""

        def __init__(self, environment: jinja2.Environment) -> None:
            super().__init__(environment)
            self.tags = {"generation"}

        def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return jinja2.nodes.Scope(body, lineno=line)

    def refuse(message: str) -> NoReturn:
        raise jinja2.TemplateError(message)

    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _to_json  # Jinja's own escapes HTML
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = _now
    try:
        return environment.from_string(source), jinja2.TemplateError
    except (jinja2.TemplateError, RecursionError) as error:
        raise InputError(f"the chat template is no valid Jinja ({error}): {source[:60]!r}") from error


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _now(form: str) -> str:
    return datetime.now().strftime(form)


def _mark_final(chat: list[dict[str, Any]]) -> str:
    """Put the mark at the end of the last message's text, and return that text."""
    last = chat[-1] = copy.deepcopy(chat[-1])
    content = last["content"]
    if isinstance(content, str):
        last["content"] = content + _MARK
        return content
    parts = content if isinstance(content, list | tuple) else ()
    for part in reversed(parts):
        if isinstance(part, dict) and isinstance(part.get("text"), str):
            text: str = part["text"]
            part["text"] = text + _MARK
            return text
    raise InputError("continue_final_message needs text in the last message, and there is none")


def _open_end(text: str, final: str) -> str:
    """`text` up to the mark; the rule of `render_jinja_template` in transformers 4.57."""
    mark = _MARK.strip()
    if final.strip() not in text or mark not in text:
        raise InputError(
            "the chat template leaves out the last message, or a part of it, so that it cannot be gone on with: set"
            " continue_final_message=False"
        )
    place = text.rindex(mark)
    # where the template trimmed the mark's own space, it trimmed the message's too
    return text[:place] if text.startswith(_MARK, place) else text[:place].rstrip()


def _listed(value: Any, name: str) -> Sequence[Any]:
    if not isinstance(value, list | tuple):
        raise InputError(f"{name} must be a list, found {_name(value)}")
    return value


def _document(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InputError(f"documents are dicts, usually with 'title' and 'text'; found {_name(value)}")
    return value


def _tool(value: Any) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return value
    if inspect.isfunction(value):
        return schema_of(value)
    raise InputError(f"a tool is a JSON schema (a dict) or a Python function, found {_name(value)}")


def schema_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The JSON schema of a function for a template's `tools`, as `get_json_schema` of transformers 4.57 writes it.

    Args:
        function: With type hints, and a docstring in Google's style that describes every argument; "(choices: [...])" at the
            end of a description lists the values allowed.

    Raises:
        InputError: A hint or a description is missing, or a hint has no counterpart in JSON.
    """
    name = getattr(function, "__name__", repr(function))
    summary, described, returns = _sections(inspect.getdoc(function) or "")
    if not summary and not described:
        raise InputError(f"the tool {name} has no docstring; describe it and its arguments, or give its JSON schema")
    hints = typing.get_type_hints(function)
    properties: dict[str, Any] = {}
    required = []
    for argument in inspect.signature(function).parameters.values():
        if argument.name not in hints:
            raise InputError(
                f"argument {argument.name!r} of the tool {name} has no type hint; add one, or give its JSON schema"
            )
        if argument.name not in described:
            raise InputError(
                f"argument {argument.name!r} of the tool {name} is not described under 'Args:' in its docstring"
            )
        if argument.default is inspect.Parameter.empty:
            required.append(argument.name)
        properties[argument.name] = _described(_schema(hints[argument.name], name), described[argument.name], name)
    parameters = {"type": "object", "properties": properties, **({"required": required} if required else {})}
    result = {"name": name, "description": summary, "parameters": parameters}
    if "return" in hints:
        result["return"] = _schema(hints["return"], name) | ({"description": returns} if returns is not None else {})
    return {"type": "function", "function": result}


def _sections(text: str) -> tuple[str, dict[str, str], str | None]:
    """Summary, arguments and result of a docstring in Google's style."""
    heads = list(re.finditer(r"^[ \t]*(Args|Returns|Raises):", text, re.MULTILINE))
    summary = text[: heads[0].start() if heads else len(text)].strip()
    parts = {
        head[1]: text[head.end() : heads[place + 1].start() if place + 1 < len(heads) else len(text)].strip()
        for place, head in enumerate(heads)
    }
    arguments: dict[str, str] = {}
    for match in re.finditer(r"^\s*(\w+):\s*(.*?)(?=\n\s*\w+:|\Z)", parts.get("Args", ""), re.MULTILINE | re.DOTALL):
        arguments.setdefault(match[1], re.sub(r"\s*\n\s*", " ", match[2].strip()))
    return summary, arguments, parts.get("Returns")


def _described(schema: dict[str, Any], text: str, name: str) -> dict[str, Any]:
    choices = re.search(r"\(choices:\s*(.*?)\)\s*$", text, re.IGNORECASE)
    if choices is None:
        return schema | {"description": text}
    try:
        values = [str(value).strip() for value in json.loads(choices[1])]
    except ValueError as error:
        raise InputError(f"the choices of the tool {name} are no JSON list: {choices[1]}") from error
    return schema | {"enum": values, "description": text[: choices.start()].strip()}


def _schema(hint: Any, name: str) -> dict[str, Any]:
    """The JSON schema of a type hint."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return {}
    if origin is None:
        return {"type": _JSON_TYPES.get(hint, "object")}  # of a bare list too, as transformers has it
    if origin is typing.Union or origin is types.UnionType:
        return _union(arguments, name)
    if origin is typing.Literal:
        kinds = list(dict.fromkeys(_JSON_TYPES.get(type(value), "object") for value in arguments))
        return {"type": kinds[0] if len(kinds) == 1 else kinds, "enum": list(arguments)}
    if origin is list:
        return {"type": "array", "items": _schema(arguments[0], name)}
    if origin is tuple and len(arguments) > 1 and ... not in arguments:
        return {"type": "array", "prefixItems": [_schema(argument, name) for argument in arguments]}
    if origin is dict:
        return {"type": "object", "additionalProperties": _schema(arguments[1], name)}
    raise InputError(f"the tool {name} has a type hint without a counterpart in JSON: {hint}; give its JSON schema")


def _union(arguments: Sequence[Any], name: str) -> dict[str, Any]:
    schemas = [_schema(argument, name) for argument in arguments if argument is not type(None)]
    if len(schemas) == 1:
        result = dict(schemas[0])
    elif all(isinstance(schema.get("type"), str) for schema in schemas):
        result = {"type": sorted(schema["type"] for schema in schemas)}
    else:
        result = {"anyOf": schemas}
    return result | ({"nullable": True} if type(None) in arguments else {})


def _name(value: object) -> str:
    return type(value).__name__
