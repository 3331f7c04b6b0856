// The Vercel AI SDK with its provider for OpenAI.
import { createOpenAI } from "@ai-sdk/openai";
import { embedMany, generateText, Output, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { LONG, MODEL, REFUSALS, SHORT, all, attempt, raised, run } from "./doing.mjs";

const provider = (at, headers = {}) =>
  createOpenAI({ baseURL: at.url, apiKey: at.key, headers });
const chat = (at, model = MODEL) => provider(at).chat(model);
const plain = async (asked) => {
  const { text, finishReason, usage, steps } = await asked;
  return { text, finishReason, usage, steps: steps.length };
};
const streamed = async (asked) => ({
  words: await all(asked.textStream),
  finish: await asked.finishReason,
  usage: await asked.usage,
});
const tools = {
  weather: tool({
    description: "The weather",
    inputSchema: z.object({ city: z.string() }),
    execute: async () => LONG,
  }),
};
const canal = z.object({ name: z.string(), length_km: z.number() });
const maxRetries = 0;

await run("ai", {
  chat: (at) => plain(generateText({ model: chat(at), prompt: SHORT, maxRetries })),
  "chat, streamed": (at) => streamed(streamText({ model: chat(at), prompt: SHORT, maxRetries })),
  "chat, long": (at) => plain(generateText({ model: chat(at), prompt: LONG, maxRetries })),
  "chat, long, streamed": (at) =>
    streamed(streamText({ model: chat(at), prompt: LONG, maxRetries })),
  "tools, long result": (at) =>
    plain(
      generateText({ model: chat(at), prompt: SHORT, tools, stopWhen: stepCountIs(3), maxRetries }),
    ),
  "structured output": async (at) => {
    const output = Output.object({ schema: canal });
    return (await generateText({ model: chat(at), prompt: SHORT, output, maxRetries })).output;
  },
  responses: (at) => plain(generateText({ model: provider(at)(MODEL), prompt: SHORT, maxRetries })),
  "responses, streamed": (at) =>
    streamed(streamText({ model: provider(at)(MODEL), prompt: SHORT, maxRetries })),
  "responses, long, streamed": (at) =>
    streamed(streamText({ model: provider(at)(MODEL), prompt: LONG, maxRetries })),
  "responses, tools, long result": (at) => {
    const model = provider(at)(MODEL);
    return plain(generateText({ model, prompt: SHORT, tools, stopWhen: stepCountIs(3), maxRetries }));
  },
  completions: (at) => {
    const model = provider(at).completion("gpt-3.5-turbo-instruct");
    return plain(generateText({ model, prompt: SHORT, maxRetries }));
  },
  embeddings: async (at) => {
    const model = provider(at).textEmbeddingModel("text-embedding-3-small");
    const { embeddings, usage } = await embedMany({ model, values: ["a", "b"], maxRetries });
    return { embeddings, usage };
  },
  errors: async (at) => {
    const told = [];
    for (const status of REFUSALS) {
      const model = chat(at, `fails-${status}`);
      told.push(await attempt(() => plain(generateText({ model, prompt: SHORT, maxRetries }))));
    }
    return told;
  },
  retries: (at) =>
    plain(generateText({ model: chat(at, "busy-at-first"), prompt: SHORT, maxRetries: 2 })),
  timeout: (at) => {
    const asked = { model: chat(at, "stalls"), prompt: SHORT, maxRetries };
    return attempt(() => plain(generateText({ ...asked, abortSignal: AbortSignal.timeout(1000) })));
  },
  "a stream that breaks off": async (at) => {
    const parts = [];
    const asked = { model: chat(at, "breaks-off"), prompt: SHORT, maxRetries, onError: () => {} };
    try {
      for await (const part of streamText(asked).fullStream) {
        parts.push(part.type === "error" ? raised(part.error) : part.type);
      }
    } catch (error) {
      parts.push(raised(error));
    }
    return parts;
  },
  "policy by header": (at) => {
    const model = provider(at, { "x-laconic-policy": "off" }).chat(MODEL);
    return plain(generateText({ model, prompt: LONG, maxRetries }));
  },
});
