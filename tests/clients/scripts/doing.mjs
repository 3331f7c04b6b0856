// What a client's script shares with the others: see doing.py.
import { readFileSync, writeFileSync } from "node:fs";

const job = JSON.parse(readFileSync(0, "utf-8"));
export const MODEL = "gpt-4o-mini";
export const SHORT = "When was the Kiel Canal opened?";
export const LONG = job.long;
export const REFUSALS = [400, 401, 404, 422, 429, 500];

const tell = (does, got) => console.log(JSON.stringify({ does, got: got ?? null }));

export function raised(error) {
  return {
    type: error.name,
    message: error.message,
    status: error.status ?? error.statusCode ?? null,
    code: error.code ?? null,
    request_id: error.requestID ?? null,
    body: error.error ?? error.responseBody ?? null,
    "retry-after": error.headers?.get?.("retry-after") ?? error.responseHeaders?.["retry-after"] ?? null,
    cause: error.cause?.name ?? null,
  };
}

export async function attempt(call) {
  try {
    return await call();
  } catch (error) {
    return raised(error);
  }
}

export async function all(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return parts;
}

async function printed(snippet) {
  // What a piece of code from the docs prints.
  const said = [];
  const log = console.log;
  const write = process.stdout.write;
  console.log = (...words) => said.push(words.join(" "));
  process.stdout.write = (text) => said.push(text);
  try {
    writeFileSync("snippet.mjs", snippet);
    await import(`${process.cwd()}/snippet.mjs`);
  } finally {
    console.log = log;
    process.stdout.write = write;
  }
  return said;
}

export async function run(name, scenarios) {
  const installed = JSON.parse(readFileSync(`../node_modules/${name}/package.json`, "utf-8"));
  tell("version", installed.version);
  tell("snippet", await printed(job.snippet));
  for (const [does, scenario] of Object.entries(scenarios)) {
    const at = { root: job.url, url: `${job.url}/v1`, key: `sk-${does.replaceAll(" ", "-")}` };
    try {
      tell(does, await scenario(at));
    } catch (error) {
      console.error(error);
      tell(does, { broke: raised(error) });
    }
  }
}
