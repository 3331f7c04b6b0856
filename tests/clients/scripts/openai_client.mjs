// OpenAI's own client for JavaScript.
import OpenAI, { AzureOpenAI, toFile } from "openai";
import { zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";
import { LONG, MODEL, REFUSALS, SHORT, all, attempt, raised, run } from "./doing.mjs";

const client = (at, options = {}) =>
  new OpenAI({ baseURL: at.url, apiKey: at.key, maxRetries: 0, ...options });
const ask = (text = SHORT, options = {}) => ({
  model: MODEL,
  messages: [{ role: "user", content: text }],
  ...options,
});
const city = { type: "object", properties: { city: { type: "string" } } };
const canal = z.object({ name: z.string(), length_km: z.number() });

await run("openai", {
  chat: (at) => client(at).chat.completions.create(ask()),
  "chat, streamed": async (at) => {
    const options = { stream: true, stream_options: { include_usage: true } };
    return all(await client(at).chat.completions.create(ask(SHORT, options)));
  },
  "chat, several at once": (at) => {
    const caller = client(at);
    return Promise.all(Array.from({ length: 8 }, () => caller.chat.completions.create(ask())));
  },
  "chat, long": (at) => client(at).chat.completions.create(ask(LONG)),
  "chat, long, streamed": (at) => client(at).chat.completions.stream(ask(LONG)).finalChatCompletion(),
  "tools, long result": async (at) => {
    const tools = [{ type: "function", function: { name: "weather", parameters: city } }];
    const messages = [{ role: "user", content: SHORT }];
    const first = await client(at).chat.completions.create({ model: MODEL, messages, tools });
    const said = first.choices[0].message;
    const result = { role: "tool", tool_call_id: said.tool_calls[0].id, content: LONG };
    messages.push(said, result);
    return [first, await client(at).chat.completions.create({ model: MODEL, messages, tools })];
  },
  "structured output": async (at) => {
    const response_format = zodResponseFormat(canal, "canal");
    return client(at).chat.completions.parse(ask(SHORT, { response_format }));
  },
  responses: async (at) => {
    const caller = client(at);
    const first = await caller.responses.create({ model: MODEL, input: SHORT, instructions: "Be brief." });
    const asked = { model: MODEL, input: "Why?", previous_response_id: first.id };
    const text = { format: zodTextFormat(canal, "canal") };
    const parsed = await caller.responses.parse({ model: MODEL, input: SHORT, text });
    return [first, await caller.responses.create(asked), parsed.output_parsed];
  },
  "responses, streamed": async (at) =>
    all(await client(at).responses.create({ model: MODEL, input: SHORT, stream: true })),
  "responses, long, streamed": (at) =>
    client(at).responses.stream({ model: MODEL, input: LONG }).finalResponse(),
  "responses, tools, long result": async (at) => {
    const tools = [{ type: "function", name: "weather", parameters: city, strict: false }];
    const input = [{ role: "user", content: SHORT }];
    const first = await client(at).responses.create({ model: MODEL, input, tools });
    const [call] = first.output;
    input.push(call, { type: "function_call_output", call_id: call.call_id, output: LONG });
    return [first, await client(at).responses.create({ model: MODEL, input, tools })];
  },
  completions: async (at) => {
    const asked = { model: "gpt-3.5-turbo-instruct", prompt: SHORT };
    const whole = await client(at).completions.create(asked);
    return [whole, await all(await client(at).completions.create({ ...asked, stream: true }))];
  },
  "completions, long": (at) =>
    client(at).completions.create({ model: "gpt-3.5-turbo-instruct", prompt: LONG }),
  embeddings: async (at) => [
    await client(at).embeddings.create({ model: "e", input: ["a", "b"] }),
    await client(at).models.list().then((page) => page.data),
  ],
  files: async (at) => {
    const file = await toFile(Buffer.from('{"custom_id": "a"}\n'.repeat(20_000)), "a.jsonl");
    return client(at).files.create({ file, purpose: "batch" });
  },
  "raw answers": async (at) => {
    const asked = client(at).chat.completions.create(ask());
    const { data, response, request_id } = await asked.withResponse();
    const bytes = await client(at).chat.completions.create(ask(SHORT, { stream: true })).asResponse();
    return [data, response.status, [...response.headers], request_id, await bytes.text()];
  },
  errors: async (at) => {
    const caller = client(at);
    const told = [];
    for (const status of REFUSALS) {
      const asked = { ...ask(), model: `fails-${status}` };
      told.push(await attempt(() => caller.chat.completions.create(asked)));
    }
    return told;
  },
  retries: (at) =>
    client(at, { maxRetries: 2 }).chat.completions.create({ ...ask(), model: "busy-at-first" }),
  timeout: (at) =>
    attempt(() => client(at, { timeout: 1000 }).chat.completions.create({ ...ask(), model: "stalls" })),
  "a stream that breaks off": async (at) => {
    const words = [];
    try {
      const asked = { ...ask(SHORT, { stream: true }), model: "breaks-off" };
      for await (const part of await client(at).chat.completions.create(asked)) words.push(part);
    } catch (error) {
      return [words, raised(error)];
    }
    return [words, "ended as if it were whole"];
  },
  Azure: async (at) => {
    const options = { endpoint: at.root, apiVersion: "2025-04-01-preview" };
    const caller = new AzureOpenAI({ apiKey: at.key, maxRetries: 0, ...options });
    return [
      await caller.chat.completions.create(ask()),
      await caller.responses.create({ model: MODEL, input: SHORT }),
    ];
  },
  "policy by header": (at) =>
    client(at, { defaultHeaders: { "x-laconic-policy": "off" } }).chat.completions.create(ask(LONG)),
});
