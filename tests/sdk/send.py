"""Sends the conversation of conversation.json through a vendor's SDK to a recorder.

    python send.py WIRE CASE BASE_URL

WIRE is chat, responses, anthropic or gemini; CASE is plain, tools, schema or stream. BASE_URL is a loopback
address without /v1, whose server answers what the case needs. Nothing is printed; the recorder has it all.
"""

import json
import pathlib
import sys

TALK = json.loads((pathlib.Path(__file__).parent / "conversation.json").read_text())
KEY = "sk-test-0123456789abcdef"


def chat(case, base):
    import openai

    client = openai.OpenAI(api_key=KEY, base_url=base + "/v1", max_retries=0)
    messages = [{"role": "system", "content": TALK["system"]}, {"role": "user", "content": TALK["user"]}]
    more = {"model": "gpt-4.1", "max_completion_tokens": TALK["max_output"]}
    if case in ("plain", "stream"):
        more["temperature"] = TALK["temperature"]
    if case == "tools":
        more["tools"] = [{"type": "function", "function": tool} for tool in TALK["tools"]]
        message = client.chat.completions.create(messages=messages, **more).choices[0].message
        messages.append(message)
        for call, result in zip(message.tool_calls, TALK["results"]):
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    if case == "schema":
        more["model"] = "gpt-5"
        more["reasoning_effort"] = TALK["effort"]
        named = {"name": "result", "schema": TALK["schema"], "strict": True}
        more["response_format"] = {"type": "json_schema", "json_schema": named}
    if case == "stream":
        for _ in client.chat.completions.create(
            messages=messages, stream=True, stream_options={"include_usage": True}, **more
        ):
            pass
    else:
        client.chat.completions.create(messages=messages, **more)


def responses(case, base):
    import openai

    client = openai.OpenAI(api_key=KEY, base_url=base + "/v1", max_retries=0)
    talk = [{"role": "user", "content": TALK["user"]}]
    more = {"model": "gpt-4.1", "instructions": TALK["system"], "max_output_tokens": TALK["max_output"]}
    if case in ("plain", "stream"):
        more["temperature"] = TALK["temperature"]
    if case == "tools":
        # Without storage, as the vendor's guide has it for whoever keeps the conversation.
        more |= {"model": "gpt-5.4", "store": False, "include": ["reasoning.encrypted_content"]}
        more["tools"] = [{"type": "function", "strict": True, **tool} for tool in TALK["tools"]]
        first = client.responses.create(input=talk, **more)
        talk += first.output
        calls = [item for item in first.output if item.type == "function_call"]
        for call, result in zip(calls, TALK["results"]):
            talk.append({"type": "function_call_output", "call_id": call.call_id, "output": result})
    if case == "schema":
        more |= {"model": "gpt-5.4", "reasoning": {"effort": TALK["effort"]}}
        named = {"type": "json_schema", "name": "result", "schema": TALK["schema"], "strict": True}
        more["text"] = {"format": named}
    if case == "stream":
        for _ in client.responses.create(input=talk, stream=True, **more):
            pass
    else:
        client.responses.create(input=talk, **more)


def anthropic(case, base):
    import anthropic as sdk

    client = sdk.Anthropic(api_key=KEY, base_url=base, max_retries=0)
    messages = [{"role": "user", "content": TALK["user"]}]
    more = {"model": "claude-opus-5-5", "max_tokens": TALK["max_output"], "system": TALK["system"]}
    if case == "tools":
        more["tools"] = [
            {"name": tool["name"], "description": tool["description"], "input_schema": tool["parameters"]}
            for tool in TALK["tools"]
        ]
        first = client.messages.create(messages=messages, **more)
        messages.append({"role": "assistant", "content": first.content})
        calls = [block for block in first.content if block.type == "tool_use"]
        results = [
            {"type": "tool_result", "tool_use_id": call.id, "content": result}
            for call, result in zip(calls, TALK["results"])
        ]
        messages.append({"role": "user", "content": results})
    if case == "schema":
        more["thinking"] = {"type": "adaptive"}
        form = {"type": "json_schema", "schema": TALK["schema"]}
        more["output_config"] = {"effort": TALK["effort"], "format": form}
    if case == "stream":
        for _ in client.messages.create(messages=messages, stream=True, **more):
            pass
    else:
        client.messages.create(messages=messages, **more)


def gemini(case, base):
    from google import genai
    from google.genai import types

    client = genai.Client(api_key=KEY, http_options=types.HttpOptions(base_url=base))
    contents = [types.Content(role="user", parts=[types.Part(text=TALK["user"])])]
    more = {"system_instruction": TALK["system"], "max_output_tokens": TALK["max_output"]}
    if case in ("plain", "stream"):
        more["temperature"] = TALK["temperature"]
    if case == "tools":
        declared = [
            types.FunctionDeclaration(
                name=tool["name"], description=tool["description"], parameters_json_schema=tool["parameters"]
            )
            for tool in TALK["tools"]
        ]
        more["tools"] = [types.Tool(function_declarations=declared)]
        config = types.GenerateContentConfig(**more)
        first = client.models.generate_content(model="gemini-3-pro", contents=contents, config=config)
        contents.append(first.candidates[0].content)
        results = [
            types.Part.from_function_response(name=call.name, response={"output": result})
            for call, result in zip(first.function_calls, TALK["results"])
        ]
        contents.append(types.Content(role="user", parts=results))
    if case == "schema":
        more["thinking_config"] = types.ThinkingConfig(thinking_level=TALK["effort"])
        more |= {"response_mime_type": "application/json", "response_json_schema": TALK["schema"]}
    config = types.GenerateContentConfig(**more)
    if case == "stream":
        for _ in client.models.generate_content_stream(model="gemini-3-pro", contents=contents, config=config):
            pass
    else:
        client.models.generate_content(model="gemini-3-pro", contents=contents, config=config)


if __name__ == "__main__":
    wire, case, base = sys.argv[1:]
    {"chat": chat, "responses": responses, "anthropic": anthropic, "gemini": gemini}[wire](case, base)
