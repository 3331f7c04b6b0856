"""Check law 2 on many bodies: what differs after compression lies inside edited strings.

    LACONIC_DATA=... python benchmarks/splice.py [--bodies 2000] [--policy rag]

Bodies are passages in generated JSON: duplicate and unknown keys, 30-digit integers, ``1e400``,
escapes of every spelling, lone surrogates, odd white space.  The check knows nothing of splicing:
it aligns both bodies outside their texts and compares bytes.  The baseline is the body as sent.  A
third each are chat, responses and completions.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Sequence

from common import Pipeline, Record, percent, policy, records
from proxy.types import Span
from proxy.wire import endpoint_for

ODD_MEMBERS = (
    '"temperature": 1e2',
    '"seed": 123456789012345678901234567890',
    '"x_limit": 1e400',
    '"user": "caf\\u00e9 \\/ \\ud83d"',
    '"metadata": {"a": 1, "a": 2, "": null}',
    '"stop": ["\\u003c|end|\\u003e", "\\n\\t"]',
    '"logit_bias": {"50256": -100.000}',
    '"tools": [ ]',
)


def spelt(rng: random.Random, text: str) -> str:
    """Return a JSON string literal for ``text`` in one of many spellings."""
    literal = json.dumps(text, ensure_ascii=rng.random() < 0.5)
    if rng.random() < 0.3:
        literal = literal.replace("/", "\\/")
    if rng.random() < 0.3 and "\\u" not in literal:
        literal = literal.replace("e", "\\u0065", 3)
    return literal


def body_of(rng: random.Random, record: Record) -> bytes:
    """Return one generated request body around a record's passages."""
    passages = [record["gold"], *rng.sample(record["distractors"], rng.randrange(2, 12))]
    rng.shuffle(passages)
    text = "\n\n".join(p["text"] for p in passages) + "\n\n" + record["question"] + "?"
    blank = rng.choice(["", " ", "\n  ", "\t"])
    members = rng.sample(ODD_MEMBERS, rng.randrange(len(ODD_MEMBERS)))
    said = rng.choice([messages_of, input_of, prompt_of])(rng, spelt(rng, text), blank)
    members += ['"model": "gpt-4o"', *said]
    rng.shuffle(members)
    return ("{" + f",{blank}".join(members) + "}" + blank).encode("utf-8", "surrogatepass")


def messages_of(rng: random.Random, text: str, blank: str) -> list[str]:
    """Return the members of a chat body."""
    return [f'"messages":{blank}[{message_of(rng, text, blank, "text")}]']


def input_of(rng: random.Random, text: str, blank: str) -> list[str]:
    """Return the members of a responses body: a string, or items."""
    told = f'"instructions":{blank}"Answer br\\u0069efly."'
    if rng.random() < 0.3:
        return [told, f'"input":{blank}{text}']
    thought = '{"type":"reasoning","summary":[],"encrypted_content":"e\\u0065"}'
    return [told, f'"input":{blank}[{thought},{message_of(rng, text, blank, "input_text")}]']


def prompt_of(rng: random.Random, text: str, blank: str) -> list[str]:
    """Return the members of a completions body."""
    return [f'"prompt":{blank}{text}' if rng.random() < 0.7 else f'"prompt":[{blank}{text}]']


def message_of(rng: random.Random, text: str, blank: str, kind: str) -> str:
    """Return a user's message, its text a string or a part of type ``kind`` beside an image."""
    if rng.random() < 0.4:
        image = '{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}'
        text = f'[{image},{blank}{{"type":"{kind}","text":{text},"x":1.50}}]'
    return f'{{"x_id": 0.50, "role": "user",{blank}"content":{blank}{text}}}'


def outside(raw: bytes, strings: Sequence[Span]) -> bytes:
    """Return a body with the given strings cut out."""
    parts, end = [], 0
    for string in sorted(strings):
        parts.append(raw[end : string.start])
        end = string.end
    return b"\x00".join([*parts, raw[end:]])


def main() -> int:
    """Run the bodies; exit 1 where a byte outside an edited string differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--bodies", type=int, default=2000)
    parser.add_argument("--policy", default="rag")
    options = parser.parse_args()
    rng, pipeline, chosen = random.Random(23), Pipeline(), policy(options.policy)
    found = records("nq_30docs_dev")
    edited: list[bool] = []
    wrong = before = after = 0
    for _ in range(options.bodies):
        raw = body_of(rng, rng.choice(found))
        result = pipeline.run_raw(raw, chosen)
        addresses = {edit.address for edit in result.compressed.edits}
        cut = [
            outside(body, [leaf.raw for m in endpoint_for(body).parse(body).messages
                           for leaf in m.leaves if leaf.address in addresses])
            for body in (raw, result.body)
        ]  # fmt: skip
        json.loads(result.body)
        wrong += cut[0] != cut[1]
        edited.append(bool(addresses))
        before += result.compressed.outcome.tokens_before or 0
        after += result.compressed.outcome.tokens_after or 0
    print(f"{options.bodies} bodies under {options.policy}: {percent(edited):.1f} % edited")
    print(f"tokens {before} -> {after}, {1 - after / before:.1%} saved")
    print(f"bodies with a byte changed outside edited strings: {wrong}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
