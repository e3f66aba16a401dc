"""Record what transformers 4.57.6 makes of the chats of chat_cases.py. Run by hand: python tests/record_chat.py."""

import json
from pathlib import Path
from typing import Any

import transformers
from chat_cases import CASES, SPECIAL, TEMPLATES, weather
from transformers.utils.chat_template_utils import render_jinja_template


def text(case: dict[str, Any]) -> str | None:
    """The prompt, None where the template fails."""
    more = dict(case["more"])
    if "tools" in more:
        more["tools"] = [weather if tool == "weather" else tool for tool in more["tools"]]
    try:
        rendered, _ = render_jinja_template(
            [json.loads(json.dumps(case["chat"]))],
            chat_template=TEMPLATES[case["template"]],
            add_generation_prompt=case["opens"],
            continue_final_message=case["continues"],
            **{**SPECIAL, **more},
        )
    except KeyboardInterrupt:
        raise
    except Exception as error:  # noqa: BLE001  # whatever it raises is the answer
        print(case["template"], case["continues"], type(error).__name__, error)
        return None
    return rendered[0]


if __name__ == "__main__":
    target = Path(__file__).parent / "data" / "goldens" / "chat.json"
    lines = ",\n".join(json.dumps(text(case), ensure_ascii=False) for case in CASES)
    target.write_text(f'{{"transformers": "{transformers.__version__}", "prompts": [\n{lines}\n]}}\n', encoding="utf-8")
