#!/usr/bin/env python3
"""Writes chat_template.json: templates rendered by jinja2, set up as Hugging Face's transformers does.

    pip install jinja2 && python3 tests/golden/chat_template.py

Every case is a template, its variables, and what jinja2 prints, or that it refuses. Snippets come from
chat_template_snippets.py, whole templates from chat_templates/, conversations from below.
"""
import json
import pathlib
import sys

import jinja2
import jinja2.ext
from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

here = pathlib.Path(__file__).parent
sys.path.insert(0, str(here))
import chat_template_snippets  # noqa: E402


class Generation(jinja2.ext.Extension):
    """{% generation %} marks what the assistant wrote; it prints its body unchanged."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                      sort_keys=sort_keys)


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def environment():
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                        extensions=[Generation, jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda form: __import__("datetime").datetime.now().strftime(form)
    return env


def render(template, variables):
    try:
        return {"output": environment().from_string(template).render(**variables)}
    except Exception as error:  # jinja2 passes on whatever Python raises
        return {"error": f"{type(error).__name__}: {error}"}


WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "Current weather of a city — e.g. \"Köln\".",
    "parameters": {"type": "object", "properties": {
        "city": {"type": "string", "description": "The city"},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
        "days": {"type": "integer", "default": 1}}, "required": ["city"]}}}
CLOCK = {"type": "function", "function": {
    "name": "clock", "description": "The time of day.",
    "parameters": {"type": "object", "properties": {}}}}

CONVERSATIONS = {
    "one question": {"messages": [{"role": "user", "content": "Hello!"}],
                     "add_generation_prompt": True},
    "with a system prompt": {
        "messages": [{"role": "system", "content": "  Be brief.\n"},
                     {"role": "user", "content": "Who are you?  "}],
        "add_generation_prompt": True},
    "several turns": {
        "messages": [{"role": "system", "content": "You count."},
                     {"role": "user", "content": "one"},
                     {"role": "assistant", "content": " two "},
                     {"role": "user", "content": "three\nfour"},
                     {"role": "assistant", "content": "<think>\nfive?\n</think>\n\nfive"},
                     {"role": "user", "content": "六 <b>&amp;</b> 'quoted' \"too\" 🙂"}],
        "add_generation_prompt": True},
    "finished": {"messages": [{"role": "user", "content": "Say hi."},
                              {"role": "assistant", "content": "hi"}],
                 "add_generation_prompt": False},
    "tools offered": {"messages": [{"role": "system", "content": "Use tools."},
                                   {"role": "user", "content": "Weather in Oslo?"}],
                      "tools": [WEATHER, CLOCK], "add_generation_prompt": True},
    "tools used": {
        "messages": [
            {"role": "user", "content": "Weather in Oslo and the time?"},
            {"role": "assistant", "content": "", "tool_calls": [
                {"id": "call00001", "type": "function", "function": {
                    "name": "get_weather", "arguments": {"city": "Oslo", "days": 2, "deep": {"a": [1, 2.5, None, True]}}}},
                {"id": "call00002", "type": "function",
                 "function": {"name": "clock", "arguments": {}}}]},
            {"role": "tool", "name": "get_weather", "tool_call_id": "call00001",
             "content": "{\"temperature\": -3}"},
            {"role": "tool", "name": "clock", "tool_call_id": "call00002", "content": "12:00"},
            {"role": "assistant", "content": "Minus three, at noon."},
            {"role": "user", "content": "Thanks"}],
        "tools": [WEATHER, CLOCK], "add_generation_prompt": True},
    "no thinking": {"messages": [{"role": "user", "content": "Quick: 2+2?"}],
                    "enable_thinking": False, "add_generation_prompt": True},
    "content in parts": {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Part one, "},
                                                  {"type": "text", "text": "part two."}]}],
        "add_generation_prompt": True},
    "two users in a row": {"messages": [{"role": "user", "content": "a"},
                                        {"role": "user", "content": "b"}]},
    "nobody": {"messages": [{"role": "critic", "content": "boo"}]},
    "empty": {"messages": []},
}
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "date_string": "26 Jul 2024"}


def main():
    cases = []
    for name, template, variables in chat_template_snippets.SNIPPETS:
        cases.append({"name": name, "template": template, "variables": variables,
                      **render(template, variables)})
    for path in sorted((here / "chat_templates").glob("*.jinja")):
        template = path.read_text(encoding="utf-8")
        for name, conversation in CONVERSATIONS.items():
            variables = {**TOKENS, **conversation}
            cases.append({"name": f"{path.stem}: {name}", "file": path.name,
                          "variables": variables, **render(template, variables)})
    text = json.dumps(cases, ensure_ascii=False, indent=0)
    (here / "chat_template.json").write_text(text + "\n", encoding="utf-8")
    refused = sum("error" in case for case in cases)
    print(f"{len(cases)} cases, {refused} of them errors, jinja2 {jinja2.__version__}")


main()
