// The dashboard: three pages over the JSON below api/.  No framework; every text goes in as text.

const $ = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const percent = (part, whole) => (whole ? `${((100 * part) / whole).toFixed(1)} %` : "–");
const dollars = (value) => (value == null ? "–" : new Intl.NumberFormat("en", {
  style: "currency", currency: "USD", maximumFractionDigits: Math.abs(value) < 1 ? 4 : 2 }).format(value));
const ms = (value) => (value == null ? "–" : `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`);

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value != null) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child != null));
  return made;
}

async function ask(path, query = {}, init) {
  const given = Object.entries(query).filter(([, value]) => value !== "" && value != null);
  const answer = await fetch(`api/${path}?${new URLSearchParams(given)}`, init);
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.error?.message ?? answer.statusText);
  return body;
}

async function guarded(job) {
  try {
    await job();
    $("trouble").hidden = true;
  } catch (error) {
    $("trouble").textContent = error.message;
    $("trouble").hidden = false;
  }
}

// -- what is shown ------------------------------------------------------------------------------

function chosen() {
  const form = new FormData($("chosen"));
  const filter = Object.fromEntries(["policy", "model", "route", "key"].map((n) => [n, form.get(n).trim()]));
  const since = new Date(Date.now() - 1000 * Number(form.get("span")));
  return { filter, since: since.toISOString(), until: new Date(Date.now() + 60000).toISOString() };
}

// -- overview -----------------------------------------------------------------------------------

const STEPS = { minute: [16, ":00Z"], ten_minutes: [15, "0:00Z"], hour: [13, ":00:00Z"], day: [10, "T00:00:00Z"] };

async function overview() {
  const { filter, since, until } = chosen();
  const [series, groups] = await Promise.all([
    ask("series", { ...filter, since, until }),
    ask("overview", { since, by: $("by").value }),
  ]);
  sums(series.points, groups.total);
  charts(series, since, until);
  groupTable(groups);
  reasonTable(groups.total.passes);
}

function sums(points, total) {
  const sum = (name) => points.reduce((total, point) => total + point[name], 0);
  const [before, first, again] = ["tokens_before", "first_saved", "repeat_saved"].map(sum);
  const counted = points.filter((point) => point.tokens_before);
  const known = points.map((point) => point.slowest_ms).filter((value) => value != null);
  const exchanges = sum("exchanges");
  const mean = counted.reduce((t, p) => t + p.compress_ms * p.exchanges, 0) /
    Math.max(1, counted.reduce((t, p) => t + p.exchanges, 0));
  const cards = [
    ["Exchanges", number.format(exchanges), `${number.format(sum("compressed"))} compressed`],
    ["Prompt tokens", short.format(before), "as callers sent them"],
    ["Left out, first time", short.format(first), `${percent(first, before)} of all`],
    ["Left out again", short.format(again), "in later turns: a cache read’s worth"],
    ["Worth", dollars(total.value_usd), total.priced
      ? `of ${dollars(total.spent_usd)} spent; ${number.format(total.unpriced)} without a price`
      : "no price is known"],
    ["Read from cache", percent(sum("cached_tokens"), sum("prompt_tokens")), "by the provider’s count"],
    ["Added by Laconic", ms(mean), known.length ? `slowest ${ms(Math.max(...known))}` : "on average"],
    ["Cut short", number.format(sum("failed")), "did not end complete"],
  ];
  $("sums").replaceChildren(
    ...cards.map(([name, value, note]) =>
      element("div", {}, element("dt", {}, name), element("dd", {}, value, element("small", {}, note)))),
  );
}

const drawn = {};

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

// Lines; where they are stacked, the highest first, each is filled down to the one below it.
function plot(id, times, lines, options = {}) {
  drawn[id]?.destroy();
  const grid = { stroke: colour("line"), width: 1 };
  const axis = { stroke: colour("quiet"), grid, ticks: grid };
  const width = Math.max(240, $(id).clientWidth);
  drawn[id] = new uPlot(
    {
      width,
      height: options.height ?? 180,
      cursor: { points: { size: 6 } },
      scales: { x: { range: () => options.span ?? [times[0], times.at(-1)] }, y: { range: (_plot, _low, high) => [0, Math.max(options.least ?? 1, high * 1.05)] } },
      axes: [axis, { ...axis, size: 62, values: (_plot, ticks) => ticks.map((t) => short.format(t)) }],
      bands: options.stacked
        ? lines.slice(1).map((_line, i) => ({ series: [i + 1, i + 2], fill: `${colour(lines[i].tint)}88` }))
        : [],
      series: [
        {},
        ...lines.map(({ label, tint, fill, told }) => ({
          label,
          stroke: colour(tint),
          fill: fill ? `${colour(tint)}${options.stacked ? "88" : "44"}` : undefined,
          width: 1.5,
          points: { show: times.length < 40 },
          value: (plot, value, series, at) =>
            at == null || value == null ? "–" : number.format(told ? told[at] : Math.round(value * 10) / 10),
        })),
      ],
    },
    [times, ...lines.map((line) => line.values)],
    $(id),
  );
}

// From the time chosen on; where that is all there is, from the first point on.
function spanOf(times, step, since, until) {
  const [from, to] = [since, until].map((time) => Date.parse(time) / 1000);
  const length = { minute: 60, ten_minutes: 600, hour: 3600, day: 86400 }[step];
  return [Math.max(from, (times[0] ?? from) - 30 * length), to];
}

function charts({ step, points }, since, until) {
  const [, rest] = STEPS[step];
  const times = points.map((point) => Date.parse(point.at + rest) / 1000);
  const span = spanOf(times, step, since, until);
  const of = (name) => points.map((point) => point[name]);
  const first = of("first_saved"), again = of("repeat_saved"), before = of("tokens_before");
  const sent = before.map((all, i) => all - first[i] - again[i]);
  plot("tokens-chart", times, [
    { label: "left out again", tint: "again", values: before, told: again },
    { label: "left out first", tint: "first", values: sent.map((t, i) => t + first[i]), told: first },
    { label: "sent", tint: "sent", fill: true, values: sent, told: sent },
  ], { height: 240, stacked: true, span });
  plot("latency-chart", times, [
    { label: "slowest", tint: "warn", values: of("slowest_ms") },
    { label: "mean", tint: "sent", values: of("compress_ms"), fill: true },
  ], { span });
  const share = points.map((p) => (p.prompt_tokens ? (100 * p.cached_tokens) / p.prompt_tokens : null));
  plot("cache-chart", times, [{ label: "from cache", tint: "again", values: share, fill: true }],
    { least: 100, span });
}

function table(target, caption, heads, rows) {
  const head = element("tr", {}, ...heads.map((name) => element("th", { scope: "col" }, name)));
  const body = rows.length
    ? rows.map((cells) => element("tr", {}, ...cells.map((cell, i) =>
        element(i ? "td" : "th", i ? {} : { scope: "row" }, cell))))
    : [element("tr", {}, element("td", { class: "nothing", colspan: heads.length }, "nothing yet"))];
  target.replaceChildren(
    element("caption", { class: "skip" }, caption), element("thead", {}, head), element("tbody", {}, ...body));
}

function bar(part, most) {
  const made = element("span", { class: "bar" });
  made.style.width = `${most ? (50 * part) / most : 0}px`;
  return made;
}

function groupTable({ by, rows }) {
  const most = Math.max(...rows.map((row) => row.tokens_saved), 0);
  table($("groups"), `Savings by ${by}`, [by, "exchanges", "tokens", "saved", "worth", "rate", "added"],
    rows.map((row) => [
      row.key ?? "(none)",
      number.format(row.exchanges),
      short.format(row.tokens_before),
      element("span", {}, `${short.format(row.tokens_saved)} `, bar(row.tokens_saved, most)),
      dollars(row.value_usd),
      row.rate == null ? "–" : row.rate.toFixed(2),
      ms(row.compress_ms),
    ]));
}

function reasonTable(passes) {
  const rows = Object.entries(passes).sort(([, a], [, b]) => b - a);
  const most = rows[0]?.[1] ?? 0;
  table($("reasons"), "Reasons for passing", ["reason", "exchanges"],
    rows.map(([reason, count]) =>
      [reason, element("span", {}, `${number.format(count)} `, bar(count, most))]));
}

// -- exchanges ----------------------------------------------------------------------------------

let shown = [];

async function exchanges() {
  const { exchanges: found } = await ask("exchanges", { ...chosen().filter, limit: 50 });
  shown = found;
  draw();
}

async function older() {
  const known = shown;
  const before = known.at(-1)?.number;
  const { exchanges: found } = await ask("exchanges", { ...chosen().filter, limit: 50, before });
  if (shown !== known) return; // read anew meanwhile
  shown = [...known, ...found];
  draw();
}

async function newer() {
  if ($("exchanges").hidden || !$("follow").checked || document.hidden) return;
  const known = shown;
  const after = known[0]?.number ?? 0;
  const { exchanges: found } = await ask("exchanges", { ...chosen().filter, limit: 50, after });
  if (!found.length || shown !== known) return; // none, or read anew meanwhile
  shown = [...found, ...known].slice(0, 500);
  $("news").textContent = `${found.length} new`;
  draw();
}

function draw() {
  table($("latest"), "Exchanges, the newest first",
    ["when", "policy", "model", "status", "tokens", "sent", "saved", "added", "took", "reason", "ended"],
    shown.map((row) => [
      element("button", { type: "button", onclick: () => guarded(() => one(row)) },
        new Date(row.started_at).toLocaleString()),
      row.policy ?? "–",
      row.model ?? "–",
      row.status ?? "–",
      row.tokens_before == null ? "–" : number.format(row.tokens_before),
      row.tokens_after == null ? "–" : number.format(row.mode === "on" && !row.resent ? row.tokens_after : row.tokens_before),
      row.tokens_saved == null ? "–" : percent(row.tokens_saved, row.tokens_before),
      ms(row.compress_ms),
      ms(row.duration_ms),
      row.reason ?? "",
      row.ended,
    ]));
}

async function one(row) {
  const told = await ask(`exchanges/${encodeURIComponent(row.request_id)}`);
  $("one-title").textContent = `Exchange ${told.request_id}`;
  const components = element("table", {});
  table(components, "Tokens per component", ["component", "before", "after"],
    Object.entries(told.components).map(([name, count]) =>
      [name, number.format(count.before), number.format(count.after)]));
  const fields = element("table", {});
  const apart = ["components", "reckoning", "segments", "captured"];
  const rest = Object.entries(told).filter(([name]) => !apart.includes(name));
  table(fields, "All fields", ["field", "value"],
    rest.map(([name, value]) => [name, value == null ? "–" : String(value)]));
  const price = element("table", {});
  table(price, "Reckoning", ["what it came to", "tokens", "$ a million", "$"],
    (told.reckoning?.lines ?? []).map((line) =>
      [line.text, number.format(line.tokens), String(line.usd_per_million), dollars(line.usd)]));
  $("one-told").replaceChildren(
    part("Tokens by component", components), part("Reckoning", price),
    part("Segments, and the rule that tagged each", ...segmentsOf(told)),
    part("Text", ...textOf(told)), part("All fields", fields));
  $("one").showModal();
}

function part(title, ...shown) {
  return element("section", {}, element("h3", {}, title), ...shown);
}

const region = (name, inside) =>
  element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": name }, inside);

function segmentsOf({ segments }) {
  if (!segments) return [element("p", { class: "nothing" }, "This request was not looked into.")];
  const shown = element("table", { class: "labelled" });
  table(shown, "Segments", ["message", "component", "kind", "rule", "before", "after", "kept"],
    segments.map(({ message, part, component, kind, rule, before, after }) => [
      part ? `${message}.${part}` : String(message),
      element("span", { class: `stretch ${component}` }, component),
      kind ?? "",
      rule,
      number.format(before),
      number.format(after),
      before ? percent(after, before) : "–",
    ]));
  return [region("Table of segments", shown)];
}

function textOf({ captured }) {
  if (!captured) {
    return [element("p", { class: "nothing" },
      "None was kept: capture is off for this route, or the request passed unread.")];
  }
  const older = captured.left_out
    ? element("p", { class: "nothing" }, `${number.format(captured.left_out)} older texts were too long to be kept.`)
    : null;
  return [legend(), older, ...captured.leaves.map(leaf)];
}

function legend(...more) {
  return element("ul", { class: "legend", "aria-label": "Colours" },
    ...["instruction", "context", "question"].map((name) =>
      element("li", {}, element("span", { class: `stretch ${name}` }, name))),
    element("li", {}, element("del", { class: "stretch context" }, "dropped")),
    element("li", {}, element("ins", { class: "stretch" }, "inserted")), ...more);
}

function scale() {
  const steps = Array.from({ length: SHADES }, (_, n) =>
    element("span", { class: `stretch context s${n}` }, (n / (SHADES - 1)).toFixed(2).replace(/0$/, "")));
  return element("li", { class: "scale" }, "score ", ...steps);
}

// -- playground ---------------------------------------------------------------------------------

const NOTES = `The lighthouse of Westerheversand was built in 1906 and is forty metres high.
Two houses stand beside it, in which its keepers lived until 1978.
The mill of Kappeln grinds no corn any more; today it is a museum of the town.
Fishing boats leave the harbour of Büsum before sunrise, on most days of the week.
On the dike there are sheep, which tread the ground firm and keep the grass short.
The ferry to the island takes two hours, and carries cars as well as bicycles.
In winter the water is let out of the polder through a sluice of the year 1862.
The town hall has a clock whose hands were made by a smith of the next village.
Once a year the choirs of the coast meet, and sing in the church and on the market place.
The bridge over the Eider can be opened, so that sailing ships reach the inner harbour.
Peat was cut on the moor until the sixties; now cranes rest there in autumn.
The library is open on four days and lends nets for catching shrimps as well.
From the tower of the church one sees the islands, when the air is clear.
The railway to the coast was laid in 1887, and was electrified in part only.
Whoever walks on the mud flats needs a guide, for the tide comes in quickly.
The school teaches two languages, Frisian being one of them.`;

const EXAMPLE = JSON.stringify({
  model: "gpt-4o",
  messages: [
    { role: "system", content: "Answer from the notes, in one sentence." },
    { role: "user", content: `Notes:\n${NOTES}\n\nQuestion: When was the lighthouse built?` },
  ],
}, null, 2);

function bodyOf(text, question) {
  try {
    if (typeof JSON.parse(text) === "object") return text;
  } catch { /* plain text */ }
  return JSON.stringify({ model: "gpt-4o", messages: [{ role: "user", content: `${text}\n\n${question}` }] });
}

const money = ({ before_usd: before, after_usd: after, told }) =>
  before == null ? told : `${precise(before)} as it came, ${precise(after)} as sent`;
const precise = (value) => `$${value.toFixed(6)}`;

let trying = 0;

async function attempt() {
  const turn = ++trying;
  const rate = $("own-rate").checked ? null : Number($("rate").value);
  const body = bodyOf($("body").value, $("question").value);
  const found = await ask("try", {}, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ body, policy: $("policy").value, rate }),
  });
  if (turn !== trying) return;
  const { outcome } = found;
  const counted = outcome.tokens_before != null;
  $("came").textContent = [
    counted ? `${number.format(outcome.tokens_before)} tokens, of which ${number.format(outcome.tokens_after)} would be sent (rate ${outcome.rate ?? "–"})` : "Not counted",
    counted ? money(found.cost) : null,
    outcome.reason ? `reason: ${outcome.reason}` : null,
    outcome.detail,
    `${outcome.compress_ms.toFixed(1)} ms`,
  ].filter(Boolean).join(" · ");
  $("leaves").replaceChildren(...found.leaves.map(leaf));
  $("yaml").textContent = found.policy;
}

const TAGS = { kept: "span", dropped: "del", inserted: "ins" };

const SHADES = 5;
const shade = (score) => (score == null ? "" : `s${Math.min(SHADES - 1, Math.floor(score * SHADES))}`);

function leaf({ role, message, stretches }) {
  const text = element("pre", { tabindex: 0 }, ...stretches.map(({ text, fate, component, kind, rule, score }) => {
    const told = [component ? `${component}, ${kind}: ${rule}` : fate, score == null ? null : `score ${score.toFixed(2)}`];
    return element(TAGS[fate],
      { class: `stretch ${component ?? ""} ${shade(score)}`, title: told.filter(Boolean).join(" · ") }, text);
  }));
  return element("div", { class: "leaf" }, element("h3", {}, `Message ${message}, ${role}`), text);
}

async function prepare() {
  const { policies, fallback } = await ask("policies");
  $("policies").replaceChildren(...policies.map(({ name }) => element("option", { value: name })));
  $("policy").replaceChildren(...policies.map(({ name, description }) =>
    element("option", { value: name, title: description, selected: name === fallback ? "" : null }, name)));
  $("body").value = EXAMPLE;
  if (policies.some(({ name }) => name === "rag")) $("policy").value = "rag"; // it shows most
}

// -- pages --------------------------------------------------------------------------------------

const PAGES = { overview, exchanges, playground: async () => {} };

function page() {
  const name = location.hash.slice(1) in PAGES ? location.hash.slice(1) : "overview";
  for (const each of Object.keys(PAGES)) $(each).hidden = each !== name;
  $("chosen").hidden = name === "playground";
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  guarded(PAGES[name]);
}

let pending;
const soon = (job, after = 250) => { clearTimeout(pending); pending = setTimeout(() => guarded(job), after); };

window.addEventListener("hashchange", page);
window.addEventListener("resize", () => soon(() => { if (!$("overview").hidden) return overview(); }));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", page);
$("chosen").addEventListener("input", () => soon(async () => page()));
$("legend").append(legend(scale()));
$("colour").addEventListener("change", () => { $("leaves").dataset.colour = $("legend").dataset.colour = $("colour").value; });
$("chosen").addEventListener("submit", (event) => event.preventDefault());
$("by").addEventListener("change", () => guarded(overview));
$("older").addEventListener("click", () => guarded(older));
$("try").addEventListener("submit", (event) => { event.preventDefault(); guarded(attempt); });
$("rate").addEventListener("input", () => {
  $("own-rate").checked = false;
  $("rate-told").textContent = Number($("rate").value).toFixed(2).replace(/^0/, "");
  soon(attempt);
});
$("own-rate").addEventListener("change", () => guarded(attempt));
$("policy").addEventListener("change", () => guarded(attempt));
$("copy").addEventListener("click", () => navigator.clipboard.writeText($("yaml").textContent));
setInterval(() => guarded(newer), 2000);

await guarded(prepare);
page();
document.body.dataset.ready = "";
