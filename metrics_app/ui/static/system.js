"use strict";
// The whole group, as /system and /capacity tell it, every two seconds while somebody looks.

const EVERY_MS = 2000;
const FLOW = [
  ["received_values", "received"], ["accepted_values", "accepted"], ["folded_values", "counted"], ["duplicate_values", "came twice, counted once"],
  ["late_values", "late"], ["expired_values", "too old, left out"], ["produced_records", "records sent to Kafka"], ["folded_records", "records counted"],
  ["lost_records", "records deleted by Kafka before they were counted"],
];
const REASONS = {
  rejected_values: "values rejected", refused_values: "values refused for now", client_dropped_values: "values dropped by clients",
  dead_lettered_records: "records put aside as dead letters",
};
let before = null;

const cell = (said, more = {}) => make("td", more, said);
const percent = (share) => `${number(Math.round(1000 * share) / 10)} %`;
const milliseconds = (seconds) => (seconds === null ? "" : `up to ${number(Math.round(1000 * seconds))} ms`);
const size = (bytes) => (bytes >= 2 ** 30 ? `${number(Math.round((10 * bytes) / 2 ** 30) / 10)} GiB` : `${number(Math.round(bytes / 2 ** 20))} MiB`);

function span(seconds) {
  for (const [unit, length] of [["d", 86400], ["h", 3600], ["min", 60]]) if (seconds >= length) return `${Math.floor(seconds / length)} ${unit}`;
  return `${Math.max(0, Math.floor(seconds))} s`;
}

/** Rows of a table; one that says there is nothing where there is none. */
function fill(id, lines, nothing = "none") {
  const table = byId(id);
  const empty = make("tr", {}, make("td", { colspan: table.tHead.rows[0].cells.length, class: "quiet" }, nothing));
  table.tBodies[0].replaceChildren(...(lines.length ? lines.map((cells) => make("tr", {}, ...cells)) : [empty]));
}

async function show() {
  try {
    const [system, capacity] = await Promise.all([ask("/system"), ask("/capacity")]);
    verdict(system);
    fill("workers", system.workers.map(worker));
    byId("partitions-part").hidden = !system.partitions.length;
    fill("partitions", system.partitions.map(partition));
    flow(system);
    fill("reasons", reasons(system.by), "nothing");
    forecast(capacity);
  } catch (problem) {
    change("state", `This worker does not answer: ${problem.message}`, true);
  }
  setTimeout(again, EVERY_MS);
}

/** Nobody is asked for a page that nobody sees. */
function again() {
  if (!document.hidden) show(); else document.addEventListener("visibilitychange", again, { once: true });
}

/** A screen reader hears it when it changes, and not every two seconds. */
function change(id, text, bad) {
  if (byId(id).textContent !== text) byId(id).textContent = text;
  byId(id).className = bad ? "state bad" : "state";
}

function verdict(system) {
  const workers = system.workers.length === 1 ? "1 worker answers" : `${system.workers.length} workers answer`;
  change("state", system.wrong.length ? `${workers}. To be looked at: ${system.wrong.length}.` : `${workers}. Nothing is wrong.`, system.wrong.length > 0);
  byId("wrong").replaceChildren(...system.wrong.map((each) => make("li", { class: "bad" }, each)));
  byId("at").textContent = `as of ${system.at}`;
}

function worker(each) {
  const { load } = each;
  const ill = Object.keys(each.checks).length > 0;
  return [
    cell(each.url), cell(ill ? "not ready" : each.role, { class: ill ? "bad" : null }), cell(each.version), cell(span(each.told - each.started)),
    cell(number(Math.round(load.values_per_s))), cell(percent(load.busy)), cell(number(each.rows)), cell(milliseconds(load.freshness_p99_s)),
    cell(milliseconds(load.query_p99_s)), cell(size(each.memory_bytes)), cell(`${size(each.disk_free_bytes)} (${percent(each.disk_bytes ? each.disk_free_bytes / each.disk_bytes : 0)})`),
  ];
}

function partition(each) {
  const lag = each.lag === null ? "unknown" : number(each.lag);
  return [
    cell(String(each.partition)), cell(each.owner ?? "nobody", { class: each.owner === null ? "left bad" : "left" }),
    cell(each.copies.join(", ") || "none", { class: "left" }), cell(lag), cell(recovery(each.recovering), { class: "left" }),
  ];
}

function recovery(progress) {
  if (progress === null) return "";
  const share = progress.total ? percent(progress.done / progress.total) : "0 %";
  const left = progress.eta_s === null ? "" : `, about ${span(progress.eta_s)} to go`;
  return `${number(progress.done)} of ${number(progress.total)} records (${share})${left}`;
}

/** A counter of all workers; one that is told by reason, as the sum of its reasons. */
const counted = (system, name) => system.totals[name] ?? Object.values(system.by[name] || {}).reduce((sum, each) => sum + each, 0);

function flow(system) {
  const now = { at: performance.now(), workers: system.workers.map((each) => `${each.url} ${each.started}`).join() };
  for (const [name] of FLOW) now[name] = counted(system, name);
  const same = before !== null && before.workers === now.workers; // else a counter began anew, and no rate is told
  fill("flow", FLOW.map(([name, label]) => {
    const rate = same ? number(Math.round((1000 * (now[name] - before[name])) / (now.at - before.at))) : "";
    return [cell(label), cell(number(now[name])), cell(rate)];
  }));
  before = now;
}

function reasons(by) {
  return Object.entries(REASONS).flatMap(([name, label]) => Object.entries(by[name] || {}).filter(([, count]) => count > 0).map(([reason, count]) => [cell(label), cell(reason, { class: "left" }), cell(number(count))]));
}

function forecast(found) {
  const hottest = found.hottest === null ? "" : ` Partition ${found.hottest} has ${percent(found.hottest_share)} of all values, and one worker counts all of it.`;
  change("forecast", `${found.forecast[0].toUpperCase()}${found.forecast.slice(1)}.${hottest}`, found.times !== null && found.times < 1);
  fill("capacity", found.workers.map((each) => [
    cell(each.url), cell(number(Math.round(each.values_per_s))), cell(percent(each.busy)), cell(`${number(each.us_per_value)} µs`),
    cell(each.breaks_at_values_per_s === null ? "too little to tell" : number(Math.round(each.breaks_at_values_per_s))), cell(each.times === null ? "" : `${number(each.times)} times`),
    cell(each.disk_full_in_days === null ? "does not fill" : `in ${number(each.disk_full_in_days)} days`),
  ]));
}

for (const path of ["/system", "/capacity"]) byId(`curl-${path.slice(1)}`).addEventListener("click", (event) => copy(curl(path), event.target));
show();
