"use strict";
// What the worker that served this page says of itself, every two seconds.

const FLOW = [
  ["metrics_app_received_values_total", "received"], ["metrics_app_accepted_values_total", "accepted"], ["metrics_app_folded_values_total", "counted"],
  ["metrics_app_duplicate_values_total", "came twice, counted once"], ["metrics_app_late_values_total", "late"], ["metrics_app_dead_letters_total", "records put aside"],
  ["metrics_app_lag_records", "records not counted yet"], ["metrics_app_rows_in_memory", "rows in memory"], ["metrics_app_pending_bytes", "bytes on their way to Kafka"],
];
const REASONS = { metrics_app_rejected_values_total: "rejected", metrics_app_refused_values_total: "refused for now", metrics_app_client_dropped_values_total: "dropped by clients" };
let before = null;

/** The samples of Prometheus' text format: name, labels, value. */
function parsed(text) {
  return text.split("\n").filter((line) => line && !line.startsWith("#")).map((line) => {
    const [, name, labels, value] = line.match(/^([\w:]+)(?:\{(.*)\})? (\S+)$/) || [];
    return { name, labels: labels || "", value: Number(value) };
  });
}

async function text(path) {
  const token = sessionStorage.getItem(TOKEN);
  const reply = await fetch(path, { headers: token ? { Authorization: `Bearer ${token}` } : {} });
  if (reply.status === 401) { await signIn(token !== null); return text(path); }
  return reply.text();
}

async function show() {
  try {
    const [ready, metrics] = await Promise.all([text("/readyz?verbose").then(JSON.parse), text("/metrics").then(parsed)]);
    say(ready.status === "ready" ? `Ready, process ${ready.pid}.` : `Not ready: ${ready.detail}`, ready.status !== "ready");
    const checks = { ...(ready.checks || {}), ...(ready.warnings || {}) };
    byId("checks").tBodies[0].replaceChildren(...Object.entries(checks).map(([name, said]) => make("tr", {}, make("td", {}, name), make("td", { class: said === "ok" ? "left" : "left bad" }, String(said)))));
    flow(metrics);
    reasons(metrics);
  } catch (problem) {
    say(`This worker does not answer: ${problem.message}`, true);
  }
  setTimeout(show, 2000);
}

function flow(metrics) {
  const now = { at: performance.now() };
  for (const [name] of FLOW) now[name] = metrics.filter((each) => each.name === name).reduce((sum, each) => sum + each.value, 0);
  const lines = FLOW.filter(([name]) => metrics.some((each) => each.name === name)).map(([name, label]) => {
    const rate = before && name.endsWith("_total") ? number(Math.round((1000 * (now[name] - before[name])) / (now.at - before.at))) : "";
    return make("tr", {}, make("td", {}, label), make("td", {}, number(now[name])), make("td", {}, rate));
  });
  byId("flow").tBodies[0].replaceChildren(...lines);
  before = now;
}

function reasons(metrics) {
  const found = metrics.filter((each) => each.name in REASONS && each.value > 0);
  const lines = found.map((each) => make("tr", {}, make("td", {}, REASONS[each.name]), make("td", { class: "left" }, each.labels), make("td", {}, number(each.value))));
  byId("reasons").tBodies[0].replaceChildren(...(lines.length ? lines : [make("tr", {}, make("td", {}, "nothing"), make("td", {}, ""), make("td", {}, "0"))]));
}

show();
