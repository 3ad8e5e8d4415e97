"""Says conversations through the vendors' own SDKs, to the address it is given.

Reads one JSON object per line: {"vendor", "how", "base_url", "kwargs"}; `how` is the SDK's way of asking:
create, stream, or parse with the class below. The server keeps what it was sent; nothing is printed but errors.
Run by `cargo test --test all -- --ignored sdk::`; needs `pip install anthropic openai`.
"""

import json
import sys
from typing import List, Literal

import anthropic
import openai
from pydantic import BaseModel

KEY = "sk-test-0123456789abcdef"


class Result(BaseModel):
    verdict: Literal["approve", "revise"]
    issues: List[str]


def say(vendor, how, base_url, kwargs):
    if vendor == "anthropic":
        messages = anthropic.Anthropic(api_key=KEY, base_url=base_url, max_retries=0).messages
        if how == "create":
            messages.create(**kwargs)
        elif how == "stream":
            with messages.stream(**kwargs) as stream:
                stream.get_final_message()
        elif how == "parse":
            messages.parse(output_format=Result, **kwargs)
    else:
        completions = openai.OpenAI(api_key=KEY, base_url=base_url, max_retries=0).chat.completions
        if how == "create":
            completions.create(**kwargs)
        elif how == "stream":
            with completions.stream(**kwargs) as stream:
                stream.get_final_completion()
        elif how == "parse":
            completions.parse(response_format=Result, **kwargs)


for line in sys.stdin:
    say(**json.loads(line))
