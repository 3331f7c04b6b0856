# ruff: noqa: ARG005, E501 - prompts are not wrapped, and every shape takes the filling
"""Ways to put a text and a question into a chat request, with their true segments.

Written from what frameworks, papers and applications send, each wave before any rule was tried on
it: ``SHAPES`` first, ``LATER`` after the rules had been mended on those.
Each is filled with several texts, so that a figure is not one text's luck.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple


class Stretch(NamedTuple):
    """A piece of a message; ``component`` is None where either label would do."""

    text: str
    component: str | None = None


@dataclass(frozen=True, slots=True)
class Texts:
    """What shapes are filled with: (paragraph, question) pairs and titled passages."""

    squad: Sequence[tuple[str, str]]
    natural: Sequence[tuple[str, Sequence[tuple[str, str]]]]
    multi: dict[str, Sequence[tuple[str, str]]]
    rng: random.Random


@dataclass(frozen=True, slots=True)
class Fill:
    """One filling: paragraphs, a question, titled passages with their own, and another language's."""

    paragraphs: Sequence[str]
    question: str
    bare: str  # a question without a question mark, lower-case
    titled: Sequence[tuple[str, str]]
    multi: Mapping[str, tuple[Sequence[str], str]]


def c(text: str) -> Stretch:
    """Context."""
    return Stretch(text, "context")


def q(text: str) -> Stretch:
    """Question."""
    return Stretch(text, "question")


def i(text: str) -> Stretch:
    """Instruction."""
    return Stretch(text, "instruction")


Piece = Stretch | str
Message = tuple[str, Sequence[Sequence[Piece]]]  # role, parts


def user(*pieces: Piece) -> Message:
    """Make a user message of one part."""
    return "user", [pieces]


def system(*pieces: Piece) -> Message:
    """Make a system message."""
    return "system", [pieces]


def parts(*stretches: Piece) -> Message:
    """Make a user message of several text parts."""
    return "user", [[stretch] for stretch in stretches]


def shapes(
    texts: Texts, fillings: int = 6, *, later: bool = False
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every shape in every filling, in the form of ``eval/tagging_dev``."""
    fills = [_fill(texts) for _ in range(fillings)]
    for name, shape in (LATER if later else SHAPES).items():
        for fill in fills:
            yield name, _row(shape(fill))


def _fill(texts: Texts) -> Fill:
    rng = texts.rng
    chosen = rng.sample(texts.squad, 4)
    bare, titled = rng.choice(texts.natural)
    multi = {}
    for lang, pairs in texts.multi.items():
        some = rng.sample(pairs, 3)
        multi[lang] = ([p for p, _ in some], some[0][1])
    return Fill([p for p, _ in chosen], chosen[0][1], bare.rstrip("?").lower(), titled[:5], multi)


def _row(messages: Sequence[Message]) -> dict[str, Any]:
    built: list[dict[str, Any]] = []
    segments = []
    for index, (role, contents) in enumerate(messages):
        made = []
        for part, pieces in enumerate(contents):
            text = ""
            for piece in pieces:
                stretch = Stretch(piece) if isinstance(piece, str) else piece
                if stretch.component:
                    segments.append(
                        {
                            "message": index,
                            "part": part,
                            "start": len(text),
                            "end": len(text) + len(stretch.text),
                            "component": stretch.component,
                        }
                    )
                text += stretch.text
            made.append(text)
        content: Any = made[0] if len(made) == 1 else [{"type": "text", "text": t} for t in made]
        built.append({"role": role, "content": content})
    return {"messages": built, "segments": segments}


def _paragraphs(f: Fill) -> str:
    return "\n\n".join(f.paragraphs)


_LOG = "\n".join(
    f"2024-05-{d:02d} 03:1{d % 10}:0{d % 7} {level} worker-{d % 3} {text}"
    for d in range(1, 19)
    for level, text in [
        ("INFO", "job accepted"),
        ("ERROR" if d % 5 == 0 else "WARN", f"retry {d} after timeout"),
    ]
)
_TRACE = """Traceback (most recent call last):
  File "/srv/app/run.py", line 41, in <module>
    main()
  File "/srv/app/run.py", line 22, in main
    total += float(row["amount"])
ValueError: could not convert string to float: ''"""
_CSV = "region,month,units,revenue\n" + "\n".join(
    f"{r},{m:02d},{37 * m % 91},{1234.5 * m:.2f}" for r in ("north", "south") for m in range(1, 10)
)
_TABLE = "| region | month | units |\n|---|---|---|\n" + "\n".join(
    f"| north | {m} | {m * 7 % 31} |" for m in range(1, 15)
)
_SQL = """CREATE TABLE customers (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  city TEXT
);
CREATE TABLE orders (
  id INTEGER PRIMARY KEY,
  customer_id INTEGER REFERENCES customers(id),
  placed_at TIMESTAMP,
  total NUMERIC
);"""
_CODE = """def merge(left, right):
    out = []
    while left and right:
        if left[0] < right[0]:
            out.append(left.pop(0))
        else:
            out.append(right.pop(0))
    return out"""
_EMAIL = """From: Dana Whitfield <dana@example.com>
To: Support <help@example.com>
Subject: Invoice 20931 charged twice

Hi team,

I was charged twice for invoice 20931 on 4 March. My bank shows two debits of 89.00 EUR. I already wrote last week and got no reply. Please refund the second one.

Best regards,
Dana"""
_CHAT = """[10:02] Priya: The staging database is out of disk again.
[10:03] Marek: I will drop the old snapshots, that frees 40 GB.
[10:05] Priya: Can we move the nightly export to Sunday?
[10:06] Lucia: Yes, but finance wants the numbers by Monday 8 am.
[10:09] Marek: Done. Snapshots older than 30 days are gone."""
_TICKET = """Ticket #4821
Customer: Northwind Ltd
Priority: high

The customer reports that exports to PDF fail since version 4.2. Exports with fewer than 10 pages work. The log shows an out of memory error in the renderer. A restart of the service helps for about an hour.

2024-03-02 Agent: asked for a sample file.
2024-03-03 Customer: sent a file of 48 pages, fails each time."""
_CONTRACT = """7. Term and Termination

7.1 This Agreement commences on the Effective Date and continues for an initial term of twenty-four (24) months.
7.2 Either party may terminate this Agreement upon ninety (90) days' prior written notice to the other party.

8. Liability

8.1 Neither party shall be liable for indirect or consequential damages. The Supplier's total liability shall not exceed the fees paid in the preceding twelve months."""
_RESUME = """Tomasz Zielinski
Senior data engineer

Experience
- 2019-2024 Lumen Freight, Gdansk: built the streaming platform on Kafka and Flink; led four engineers.
- 2015-2019 Bank Polski: nightly risk reports in Spark and Scala.

Education
- MSc Computer Science, Warsaw University of Technology, 2015"""
_HTML = """<html>
<head><title>Opening hours</title></head>
<body>
<h1>Museum of Glass</h1>
<p>The museum is open from Tuesday to Sunday, 10:00 to 18:00. On the first Thursday of the month it closes at 21:00.</p>
<ul><li>Adults: 12 EUR</li><li>Children under 12: free</li></ul>
</body>
</html>"""
_REVIEWS = [
    ("The battery died after two days and nobody answers my mails.", "negative"),
    ("Lovely screen, quick delivery, would buy again.", "positive"),
    ("It is a phone. It makes calls.", "neutral"),
    ("The hinge broke within a week of careful use.", "negative"),
]
_WORDS = [
    ("the harbour", "el puerto"),
    ("a narrow street", "una calle estrecha"),
    ("late autumn", "finales de otoño"),
]

Shape = Callable[[Fill], Sequence[Message]]

SHAPES: dict[str, Shape] = {
    "pieces_of_context": lambda f: [
        user(
            i(
                "Use the following pieces of context to answer the question at the end. If you don't know the answer, just say that you don't know, don't try to make up an answer."
            ),
            "\n\n",
            c(_paragraphs(f)),
            "\n\nQuestion: ",
            q(f.question),
            "\nHelpful Answer:",
        )
    ],
    "context_below": lambda f: [
        user(
            i("Context information is below."),
            "\n---------------------\n",
            c(_paragraphs(f)),
            "\n---------------------\n",
            i("Given the context information and not prior knowledge, answer the query."),
            "\nQuery: ",
            q(f.question),
            "\nAnswer: ",
        )
    ],
    "long_documents_first": lambda f: [
        user(
            "<documents>\n",
            c(
                "\n".join(
                    f'<document index="{n}">\n<source>{t}</source>\n<document_content>\n{x}\n</document_content>\n</document>'
                    for n, (t, x) in enumerate(f.titled, 1)
                )
            ),
            "\n</documents>\n\n",
            i(
                "Find quotes from the documents that bear on the question and place them in <quotes> tags. Then answer in <info> tags."
            ),
            "\n\n",
            q(f.bare),
        )
    ],
    "delimited_articles": lambda f: [
        system(
            i(
                "You will be provided with articles delimited by triple quotes and a question. Your task is to answer using only the provided articles."
            )
        ),
        user(
            *[piece for p in f.paragraphs for piece in ('"""', c(p), '"""\n\n')],
            "Question: ",
            q(f.question),
        ),
    ],
    "documents_colon": lambda f: [
        user(
            i("Given these documents, answer the question."),
            "\nDocuments:\n",
            c("\n".join(f.paragraphs)),
            "\nQuestion: ",
            q(f.question),
            "\nAnswer:",
        )
    ],
    "field_markers": lambda f: [
        system(
            i(
                "Your input fields are:\n1. `context` (str)\n2. `question` (str)\nYour output fields are:\n1. `answer` (str)\n\nIn adhering to this structure, your objective is: \n        Answer questions with short factoid answers."
            )
        ),
        user(
            "[[ ## context ## ]]\n",
            c(_paragraphs(f)),
            "\n\n[[ ## question ## ]]\n",
            q(f.question),
            "\n\n",
            i(
                "Respond with the corresponding output fields, starting with the field `[[ ## answer ## ]]`."
            ),
        ),
    ],
    "markdown_report": lambda f: [
        user(
            q(f.question),
            "\n\n",
            c(
                "# Annual review\n\n"
                + "\n\n".join(f"## Part {n}\n\n{p}" for n, p in enumerate(f.paragraphs, 1))
            ),
        )
    ],
    "email_and_ask": lambda f: [
        user(
            i("Draft a short, polite reply to this email. Do not promise a date for the refund."),
            "\n\n",
            c(_EMAIL),
        )
    ],
    "email_then_ask": lambda f: [
        user(c(_EMAIL), "\n\n", q("Which invoice does she complain about, and what does she want?"))
    ],
    "chat_log_query": lambda f: [
        user("Chat log:\n", c(_CHAT), "\n\nQ: ", q("Who removed the snapshots?"))
    ],
    "json_tool": lambda f: [
        user(q(f.bare)),
        ("assistant", [[c("Let me look that up.")]]),
        ("tool", [[c(json.dumps({"results": [{"title": t, "text": x} for t, x in f.titled]}))]]),
    ],
    "csv_question": lambda f: [
        user(q("Which region sold more units in the second quarter?"), "\n\n", c(_CSV))
    ],
    "table_question": lambda f: [
        user(c(_TABLE), "\n\n", q("In which month were the most units sold?"))
    ],
    "log_question": lambda f: [
        user(
            i("Here are the last lines of our worker log:"),
            "\n\n",
            c(_LOG),
            "\n\n",
            q("What went wrong first, and how often was it retried?"),
        )
    ],
    "trace_question": lambda f: [
        user(
            q("My import script stopped working this morning. What is the cause?"),
            "\n\n",
            c(_TRACE),
        )
    ],
    "code_review": lambda f: [
        user(
            q("Review this function. Is it correct for inputs of unequal length?"),
            "\n\n```python\n",
            c(_CODE),
            "\n```\n\n",
            i("Only list real defects, no style remarks."),
        )
    ],
    "spanish": lambda f: [
        user(
            "Contexto:\n",
            c("\n\n".join(f.multi["es"][0])),
            "\n\nPregunta: ",
            q(f.multi["es"][1]),
            "\nRespuesta:",
        )
    ],
    "spanish_rules": lambda f: [
        user(
            i(
                "Responde a la pregunta usando solo el texto siguiente. Si la respuesta no aparece, dilo."
            ),
            "\n\n",
            c("\n\n".join(f.multi["es"][0])),
            "\n\n",
            q(f.multi["es"][1]),
        )
    ],
    "chinese": lambda f: [
        user(
            i("请根据以下资料回答问题，不要编造。"),
            "\n\n资料：\n",
            c("\n\n".join(f.multi["zh"][0])),
            "\n\n问题：",
            q(f.multi["zh"][1]),
        )
    ],
    "hindi": lambda f: [
        user("संदर्भ:\n", c("\n\n".join(f.multi["hi"][0])), "\n\nप्रश्न: ", q(f.multi["hi"][1]))
    ],
    "arabic": lambda f: [
        user(
            i("أجب عن السؤال التالي بالاعتماد على النص فقط."),
            "\n\n",
            c("\n\n".join(f.multi["ar"][0])),
            "\n\n",
            q(f.multi["ar"][1]),
        )
    ],
    "german_instructions": lambda f: [
        user(
            i(
                "Beantworte die Frage anhand der folgenden Abschnitte. Antworte in höchstens zwei Sätzen."
            ),
            "\n\n",
            c(_paragraphs(f)),
            "\n\nFrage: ",
            q(f.question),
        )
    ],
    "react": lambda f: [
        user(
            i(
                "Answer the following questions as best you can. You have access to the following tools:\n\nsearch: looks things up\n\nUse the following format:\n\nQuestion: the input question you must answer\nThought: you should always think about what to do\nAction: the action to take\nObservation: the result of the action\nFinal Answer: the final answer to the original input question\n\nBegin!"
            ),
            "\n\nQuestion: ",
            q(f.question),
            "\nThought: I should search.\nAction: search\nObservation: ",
            c(f.paragraphs[0]),
            "\nThought:",
        )
    ],
    "support_ticket": lambda f: [
        system(
            i(
                "You help support agents. Classify tickets as bug, billing or question and name the affected version. Reply in JSON."
            )
        ),
        user(c(_TICKET), "\n\n", q("What is the category of this ticket?")),
    ],
    "html_page": lambda f: [
        user(c(_HTML), "\n\n", q("When does the museum close on the first Thursday of the month?"))
    ],
    "sql_schema": lambda f: [
        user(
            "### Database schema\n\n",
            c(_SQL),
            "\n\n### Question\n\n",
            q("List the ten customers with the highest total in 2023."),
            "\n\n### SQL\n",
        )
    ],
    "meeting_summary": lambda f: [
        system(i("You write minutes.")),
        user(
            i("Summarise the transcript below as a list of decisions with owners."),
            "\n\n",
            c(
                "\n".join(
                    f"Speaker {n % 3 + 1}: {s}."
                    for p in f.paragraphs
                    for n, s in enumerate(p.split(". ")[:6])
                )
            ),
        ),
    ],
    "resume_screening": lambda f: [
        user(
            i(
                "You are a recruiter. Compare the candidate's resume with the job description and rate the fit from 1 to 10."
            ),
            "\n\nJob description:\n",
            c(
                "We look for a senior data engineer with five years of streaming experience. Scala or Java is required. The office is in Gdansk; two days a week are remote."
            ),
            "\n\nResume:\n",
            c(_RESUME),
            "\n\n",
            i("Give the score first, then two reasons."),
        )
    ],
    "contract_qa": lambda f: [
        user(
            "<contract>\n",
            c(_CONTRACT),
            "\n</contract>\n\n",
            q("How much notice is needed to terminate?"),
            "\n\n",
            i("Cite the clause number."),
        )
    ],
    "three_parts": lambda f: [
        parts(i("Answer from the two sources only."), c(_paragraphs(f)), q(f.question))
    ],
    "parts_question_first": lambda f: [parts(q(f.question), *[c(p) for p in f.paragraphs])],
    "sentiment_few_shot": lambda f: [
        user(
            i("Classify the sentiment of each review."),
            "\n\n",
            c("\n\n".join(f"Text: {t}\nSentiment: {s}" for t, s in _REVIEWS)),
            "\n\nText: ",
            q("Works as described, though the manual is thin."),
            "\nSentiment:",
        )
    ],
    "translation_few_shot": lambda f: [
        user(
            i("Translate English to Spanish."),
            "\n\n",
            c("\n".join(f"{a} => {b}" for a, b in _WORDS)),
            "\n",
            q("an old bridge"),
            " =>",
        )
    ],
    "examples_then_turn": lambda f: [
        user(
            i("Extract the invoice number."),
            "\n\nExample 1:\n",
            c(
                "Input: Your bill no. 221 is due.\nOutput: 221\n\nExample 2:\nInput: We booked invoice 90-7.\nOutput: 90-7\n\nExample 3:\nInput: Ref. 5512 was paid.\nOutput: 5512"
            ),
            "\n\n",
            i("Now do the same for this one."),
            "\nInput: ",
            q("Please settle 7781 by Friday."),
            "\nOutput:",
        )
    ],
    "alpaca": lambda f: [
        user(
            i(
                "Below is an instruction that describes a task, paired with an input that provides further context. Write a response that appropriately completes the request."
            ),
            "\n\n### Instruction:\n",
            i("Name the three most important facts in the input."),
            "\n\n### Input:\n",
            c(f.paragraphs[0] + " " + f.paragraphs[1]),
            "\n\n### Response:",
        )
    ],
    "one_newline": lambda f: [user(c(" ".join(f.paragraphs)), "\n", q(f.question))],
    "question_one_newline": lambda f: [user(q(f.question), "\n", c(" ".join(f.paragraphs)))],
    "system_knowledge": lambda f: [
        system(
            i(
                "You are the help desk of a museum. Be friendly. Answer in at most three sentences, and only from the knowledge below."
            ),
            "\n\n## Knowledge\n\n",
            c(_paragraphs(f)),
        ),
        user(q(f.bare)),
    ],
    "system_documents_then_rules": lambda f: [
        system(
            "<context>\n",
            c(_paragraphs(f)),
            "\n</context>\n\n",
            i(
                "Answer questions using the context above. If it does not hold the answer, say so. Never mention the context."
            ),
        ),
        user(q(f.question)),
    ],
    "sandwich": lambda f: [
        user(
            i("Read the passages and answer: "),
            q(f.question),
            "\n\n",
            c("\n\n".join(f"[{n}] {x}" for n, (_, x) in enumerate(f.titled, 1))),
            "\n\n",
            i("Remember to cite passage numbers like [2]."),
        )
    ],
    "bold_labels": lambda f: [
        user(
            "**Context:**\n\n",
            c(_paragraphs(f)),
            "\n\n**Question:** ",
            q(f.question),
            "\n\n**Instructions:**\n",
            i(
                "1. Think step by step.\n2. Give the final answer on the last line.\n3. Do not use outside knowledge."
            ),
        )
    ],
    "upper_case": lambda f: [
        user("CONTEXT:\n", c(_paragraphs(f)), "\n\nQUESTION:\n", q(f.bare), "\n\nANSWER:")
    ],
    "camel_tags": lambda f: [
        user(
            "<retrievedContext>",
            c(_paragraphs(f)),
            "</retrievedContext>\n<userQuery>",
            q(f.question),
            "</userQuery>",
        )
    ],
    "numbered_sources": lambda f: [
        user(
            q(f.bare),
            "\n\nSources:\n",
            c("\n".join(f"{n}. {t} - {x}" for n, (t, x) in enumerate(f.titled, 1))),
            "\n\n",
            i("Answer with the number of the source in brackets."),
        )
    ],
    "multiple_choice": lambda f: [
        user(
            "Passage:\n",
            c(f.paragraphs[0]),
            "\n\nQuestion: ",
            q(f.question + "\nA) the first\nB) the second\nC) neither\nD) both"),
            "\n\n",
            i("Answer with a single letter."),
        )
    ],
    "personal_ask": lambda f: [
        user(
            q(
                "Hi! I need some advice. My landlord wants to raise the rent by 20 percent in June.\n\nMy contract runs until December and says nothing about raises. I have always paid on time. The flat has had damp walls since last winter and he has not repaired them.\n\nWhat can I do? Should I write to him first or go to a tenants' union?"
            )
        )
    ],
    "spec_ask": lambda f: [
        user(
            q(
                "Write a short story about a lighthouse keeper.\n\nThe keeper is old and nearly deaf. A storm destroys the radio. A ship appears in the fog, and its crew speaks a language that nobody knows.\n\nThe story should end with a question and use the present tense."
            )
        )
    ],
    "app_ask": lambda f: [
        user(
            i(
                "Build a small web app for a bakery.\n\nRequirements:\n- Customers can order bread until 20:00.\n- The baker sees all orders sorted by pick-up time.\n- No accounts; a phone number is enough.\n\nUse Flask and SQLite. Keep everything in one file."
            )
        )
    ],
    "agent_system": lambda f: [
        system(
            i(
                "You are Orla, the assistant of a travel agency.\n\n# Personality\n\nOrla is warm and brief. She never uses emojis.\n\n# Tools\n\n- search_flights: finds flights between two airports.\n- book: books a flight once the user has confirmed.\n\n# Policy\n\nNever book without confirmation. If the user asks for a refund, hand over to a person. Dates are in the format YYYY-MM-DD."
            )
        ),
        user(q("I want to fly from Oslo to Porto next Friday, what are my options?")),
    ],
    "json_format": lambda f: [
        user(
            i(
                'Extract the people named in the text. Return JSON of this form:\n{"people": [{"name": "string", "role": "string"}]}'
            ),
            "\n\nText:\n",
            c(_paragraphs(f)),
        )
    ],
    "follow_up": lambda f: [
        user(c(_paragraphs(f)), "\n\n", q(f.question)),
        ("assistant", [["In 1921."]]),
        user(q("And who was it that paid for it?")),
    ],
}

_FAQ = """Q: How long does delivery take?
A: Three to five working days inside the EU.

Q: Can I change the address later?
A: Yes, until the parcel has left the warehouse.

Q: Do you ship to Norway?
A: We do, customs duties are paid by the recipient."""
_DIFF = """diff --git a/app.py b/app.py
--- a/app.py
+++ b/app.py
@@ -10,7 +10,9 @@ def load(path):
-    return json.load(open(path))
+    with open(path) as f:
+        return json.load(f)
+"""
_YAML = """apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  replicas: 2
  template:
    spec:
      containers:
        - name: web
          image: web:1.4
          resources:
            limits:
              memory: 128Mi"""
_NOTES = """- Budget for Q3 approved at 1.2M
- Hiring: two backend engineers, one designer
- Launch moved from 4 June to 18 June because of the audit
- Risk: the payment provider's contract ends in July"""

LATER: dict[str, Shape] = {
    "stuff_in_system": lambda f: [
        system(
            i(
                "You are an assistant for question-answering tasks. Use the following pieces of retrieved context to answer the question. Use three sentences maximum and keep the answer concise."
            ),
            "\n\n",
            c(_paragraphs(f)),
        ),
        user(q(f.question)),
    ],
    "human_label": lambda f: [
        user(
            i("Use the retrieved context below to answer. Keep it concise."),
            "\nQuestion: ",
            q(f.question),
            "\nContext: ",
            c(_paragraphs(f)),
            "\nAnswer:",
        )
    ],
    "t5_line": lambda f: [user("question: ", q(f.bare), " context: ", c(f.paragraphs[0]))],
    "squad_prompt": lambda f: [
        user(
            i("Extract the shortest span from the passage that answers the question."),
            "\n\nTitle: ",
            "Notes",
            "\nPassage: ",
            c(f.paragraphs[0]),
            "\n\nQuestion: ",
            q(f.question),
            "\nSpan:",
        )
    ],
    "first_person_story": lambda f: [
        user(
            i("Read the story and answer the question that follows it."),
            "\n\n",
            c(
                "I was nine when my father bought the boat. We lived on the island then, my sister and I shared the attic, and every morning we watched him row out to the traps.\n\nOne day in March he did not come back before dark. My mother lit the lamp. I remember the smell of the oil and how nobody spoke.\n\nHe came home at noon the next day, with a dog that nobody had seen before."
            ),
            "\n\n",
            q("What did the father bring home?"),
        )
    ],
    "faq_then_ask": lambda f: [
        user(
            "FAQ:\n",
            c(_FAQ),
            "\n\n",
            q("A customer from Oslo asks who pays the duties. What do I tell her?"),
        )
    ],
    "diff_message": lambda f: [user(i("Write a commit message for this diff:"), "\n\n", c(_DIFF))],
    "yaml_question": lambda f: [
        user(
            q("Why does my pod get OOMKilled? Here is the manifest."),
            "\n\n```yaml\n",
            c(_YAML),
            "\n```",
        )
    ],
    "notes_to_email": lambda f: [
        user(i("Turn these notes into an email to the board, formal tone:"), "\n\n", c(_NOTES))
    ],
    "bullets_context": lambda f: [
        user("Background:\n", c("\n".join(f"- {p}" for p in f.paragraphs)), "\n\n", q(f.question))
    ],
    "xml_nested": lambda f: [
        user(
            "<prompt>\n<instructions>\n",
            i("Answer with one word."),
            "\n</instructions>\n<context>\n",
            c(_paragraphs(f)),
            "\n</context>\n<question>\n",
            q(f.question),
            "\n</question>\n</prompt>",
        )
    ],
    "between_hashes": lambda f: [
        user(
            i("Answer the question delimited by #### using the text delimited by ====."),
            "\n\n====\n",
            c(_paragraphs(f)),
            "\n====\n\n####\n",
            q(f.question),
            "\n####",
        )
    ],
    "search_json": lambda f: [
        system(i("Today is 3 May. Answer from the search results and give the URL.")),
        user(
            "Search results:\n",
            c(
                json.dumps(
                    [
                        {"title": t, "url": f"https://example.org/{n}", "snippet": x}
                        for n, (t, x) in enumerate(f.titled)
                    ],
                    indent=1,
                )
            ),
            "\n\nUser question: ",
            q(f.bare),
        ),
    ],
    "url_results": lambda f: [
        user(
            i("Answer the question from these web results."),
            "\n\n",
            c(
                "\n\n".join(
                    f"Title: {t}\nURL: https://example.org/{n}\nSnippet: {x}"
                    for n, (t, x) in enumerate(f.titled)
                )
            ),
            "\n\nQuestion: ",
            q(f.bare),
        )
    ],
    "french": lambda f: [
        user(
            i(
                "Vous êtes un assistant juridique. Répondez uniquement à partir des extraits ci-dessous."
            ),
            "\n\nExtraits :\n",
            c(_paragraphs(f)),
            "\n\nQuestion : ",
            q(f.question),
        )
    ],
    "portuguese": lambda f: [
        user(
            i("Com base no texto abaixo, responda à pergunta em uma frase."),
            "\n\nTexto: ",
            c(_paragraphs(f)),
            "\n\nPergunta: ",
            q(f.question),
            "\nResposta:",
        )
    ],
    "russian": lambda f: [
        user(
            i("Ответь на вопрос, используя только контекст."),
            "\n\nКонтекст:\n",
            c(_paragraphs(f)),
            "\n\nВопрос: ",
            q(f.question),
        )
    ],
    "japanese": lambda f: [
        user(
            i("以下の文書だけを使って質問に答えてください。"),
            "\n\n文書:\n",
            c(_paragraphs(f)),
            "\n\n質問: ",
            q(f.question),
        )
    ],
    "verify_claim": lambda f: [
        user(
            "Claim: ",
            q("The river was crossed in 1340 by an army of nine thousand men."),
            "\n\nEvidence:\n",
            c(_paragraphs(f)),
            "\n\n",
            i("Decide whether the evidence supports, refutes or does not mention the claim."),
        )
    ],
    "rubric_grading": lambda f: [
        user(
            i(
                "You are grading an essay. Score it from 1 to 5 for clarity and for evidence. Explain each score in one sentence."
            ),
            "\n\nEssay:\n",
            c(_paragraphs(f)),
        )
    ],
    "translate_this": lambda f: [user(i("Translate to German:"), "\n\n", c(_paragraphs(f)))],
    "rewrite_after": lambda f: [
        user(c(f.paragraphs[0]), "\n\n", i("Rewrite this for a newsletter. Keep the names."))
    ],
    "grammar": lambda f: [
        user(
            i("Fix the grammar of the text between the tags."),
            "\n<text>",
            c(f.paragraphs[0]),
            "</text>",
        )
    ],
    "multi_question": lambda f: [
        user(
            c(_paragraphs(f)),
            "\n\n",
            q(
                "Questions:\n1. "
                + f.question
                + "\n2. Who is mentioned first?\n3. Which year comes last?"
            ),
        )
    ],
    "docs_then_chat": lambda f: [
        user(
            "Here is the handbook:\n\n",
            c(_paragraphs(f)),
            "\n\n",
            q(
                "Thanks. I am preparing a talk for new colleagues. "
                + f.question
                + " Please answer so that I can put it on a slide."
            ),
        ),
        ("assistant", [["Sure."]]),
        user(q("Shorter please, and drop the date.")),
    ],
    "system_json_schema": lambda f: [
        system(
            i(
                'Extract entities. Respond with JSON that follows this schema:\n\n{"type": "object", "properties": {"people": {"type": "array", "items": {"type": "string"}}, "places": {"type": "array", "items": {"type": "string"}}}}'
            )
        ),
        user("Text:\n", c(_paragraphs(f))),
    ],
    "cloze_options": lambda f: [
        user(
            q(
                "Which of these cities lies furthest north?\n\nA. Bergen\nB. Aberdeen\nC. Riga\nD. Stockholm"
            )
        )
    ],
    "long_spec_system": lambda f: [
        system(
            i(
                "You write product descriptions for an outdoor shop.\n\nThe shop sells tents, stoves and boots. The brand voice is calm and precise, never loud. Every description has three parts: a first sentence that says who the product is for, a paragraph with the facts, and a closing line with the care instructions.\n\nMeasurements are given in metric units first. Prices are not mentioned. Superlatives are avoided."
            )
        ),
        user(q("A two-person tent, 1.9 kg, 3000 mm water column, green.")),
    ],
    "persona_chat": lambda f: [
        user(
            q(
                'I want you to act as a job interviewer. I will be the candidate and you will ask me the interview questions for the position of a data analyst. Only reply as the interviewer. Do not write the whole conversation at once.\n\nAsk me the questions one by one and wait for my answers.\n\nMy first sentence is "Hi".'
            )
        )
    ],
    "how_to_with_details": lambda f: [
        user(
            q(
                "How do I get rid of the moss on our terrace?\n\nThe terrace faces north and gets almost no sun. The stones are limestone, so vinegar is out of the question. A pressure washer is available but the joints are loose.\n\nThanks in advance!"
            )
        )
    ],
    "math_problem": lambda f: [
        user(
            q(
                "A tank holds 480 litres. One pump fills it in 6 hours, another in 4 hours. A leak empties a full tank in 12 hours.\n\nBoth pumps are switched on while the leak is open. The tank is empty at the start.\n\nHow long does it take to fill the tank? Show your working."
            )
        )
    ],
    "three_messages": lambda f: [
        system(i("Answer briefly.")),
        user("Document 1:\n", c(f.paragraphs[0])),
        user("Document 2:\n", c(f.paragraphs[1])),
        user(q(f.question)),
    ],
}
