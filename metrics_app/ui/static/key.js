"use strict";
// One key: its hours, one of them in full, and how it compares.

const form = byId("ask"), against = byId("against");
const given = new URLSearchParams(location.search);
const key = given.get("key") || "";
let hour = null; // the hour that is looked into, as in a path: 2026-11-23/22
let unit = "";
let live = null;
let other = /^\d{4}-\d\d-\d\d\/\d{1,2}$/.test(given.get("with") || "") ? given.get("with") : null; // the hour to compare with; null: that of the day before

document.title = `${key} - response times`;
byId("name").textContent = key;
form.key.value = key;
form.date.value = given.get("date") || today();
form.days.value = given.get("days") || "1";

const days = () => Number(form.days.value);
const first = () => shifted(form.date.value, 1 - days());
const range = () => `/${segment(key)}/summary?from=${first()}&to=${shifted(form.date.value, 1)}&limit=744`;
const hourOf = (start) => `${start.slice(0, 10)}/${Number(start.slice(11, 13))}`;

async function show() {
  say("Asking ...");
  byId("csv").href = `${range()}&format=csv`;
  try {
    const found = await ask(range());
    unit = found.unit;
    const withData = found.hours.filter((each) => each.count);
    say(`${number(found.count)} values from ${first()} to ${form.date.value}. ${notes(found)}`);
    bands(found.hours, unit, (start) => look(hourOf(start)));
    const wanted = given.get("hour");
    const last = withData[withData.length - 1];
    look(wanted !== null ? `${form.date.value}/${wanted}` : hourOf(last.start));
    heatOfDay();
  } catch (problem) {
    say(problem.message, true);
  }
}

async function heatOfDay() {
  byId("heat-part").hidden = days() !== 1;
  if (days() !== 1) return;
  const asked = Array.from({ length: 24 }, (_, each) => ask(`/${segment(key)}/histogram/${form.date.value}/${each}`).catch(() => null));
  heat(await Promise.all(asked));
}

async function look(path) {
  hour = path;
  clearTimeout(live);
  byId("hour-title").textContent = `The hour from ${hour.split("/")[0]} ${hour.split("/")[1].padStart(2, "0")}:00 UTC`;
  await Promise.all([lookAtHour(), compare()]);
}

async function lookAtHour() {
  const mine = hour;
  try {
    const [summary, histogram] = await Promise.all([ask(`/${segment(key)}/summary/${mine}`), ask(`/${segment(key)}/histogram/${mine}`)]);
    if (mine !== hour) return;
    byId("hour-said").textContent = `${number(summary.count)} values, ${summary.exact ? "exact" : "quantiles approximate"}, as of ${summary.as_of}. ${notes(summary)}`;
    const { values, bounds } = summary;
    shape(histogram, [["p50", values.median], ["p95", values.p95], ["p99", values.p99]]);
    const between = (pair) => (pair ? `${number(pair.lo)} and ${number(pair.hi)}` : "too few values");
    const lines = Object.entries(values).map(([stat, value]) => make("tr", {}, make("td", {}, stat), make("td", {}, stat === "count" ? number(value) : withUnit(value, unit)), make("td", {}, bounds[stat].exact ? "exact" : between(bounds[stat])), make("td", {}, /^(median|p\d)/.test(stat) ? between(bounds[stat].ci95) : "")));
    byId("stats").tBodies[0].replaceChildren(...lines);
    slider(values);
    if (!summary.final) live = setTimeout(lookAtHour, 2000); // the hour still runs
  } catch (problem) {
    byId("hour-said").textContent = problem.message;
  }
}

function slider(values) {
  const field = byId("ms");
  if (field.dataset.hour !== hour) {
    field.dataset.hour = hour;
    field.dataset.low = Math.log(Math.max(values.min, values.max / 1e6, 1e-6));
    field.dataset.high = Math.log(Math.max(values.max, 2e-6));
    field.value = 1000 * ((Math.log(Math.max(values.p95, 1e-6)) - field.dataset.low) / (field.dataset.high - field.dataset.low || 1));
  }
  under();
}

async function under() {
  const { low, high } = byId("ms").dataset;
  const limit = Number(Math.exp(Number(low) + (byId("ms").value / 1000) * (high - low)).toPrecision(3));
  const found = await ask(`/${segment(key)}/under/${hour}?ms=${limit}`).catch((problem) => problem);
  byId("share").textContent = found instanceof Error ? found.message : `${withUnit(limit, unit)}: ${number(100 * found.value)} % of the values${found.exact ? "" : ` (between ${number(100 * found.lo)} and ${number(100 * found.hi)} %)`}`;
}

const dayBefore = () => `${shifted(hour.split("/")[0], -1)}/${hour.split("/")[1]}`;
const clock = (path) => `${path.split("/")[0]} ${path.split("/")[1].padStart(2, "0")}:00 UTC`;

async function compare() {
  const mine = hour, then = other ?? dayBefore();
  const named = then === dayBefore() ? "the same hour of the day before" : clock(then);
  [against.day.value, against.of.value] = [then.split("/")[0], String(Number(then.split("/")[1]))];
  byId("shifts").tBodies[0].replaceChildren();
  byId("both-part").hidden = true;
  try {
    const [found, ...histograms] = await Promise.all([ask(compared(then)), ask(`/${segment(key)}/histogram/${mine}`), ask(`/${segment(key)}/histogram/${then}`)]);
    if (mine !== hour || then !== (other ?? dayBefore())) return;
    byId("verdict").textContent = `${found.verdict[0].toUpperCase()}${found.verdict.slice(1)} than ${named}: ${found.reason}.`.replace("Same than", "The same as").replace("Unclear than", "Unclear against");
    byId("verdict").className = found.verdict === "slower" ? "said bad" : "said";
    byId("shifts").tBodies[0].append(...found.shifts.map((each) => make("tr", {}, make("td", {}, each.stat), make("td", {}, withUnit(each.value, unit)), make("td", {}, withUnit(each.baseline, unit)), make("td", {}, each.ratio_ci95 ? `${number(each.ratio)}: ${number(each.ratio_ci95.lo)} to ${number(each.ratio_ci95.hi)}` : "too few values"))));
    byId("both-part").hidden = false;
    both(...histograms, [clock(mine), clock(then)]);
  } catch (problem) {
    byId("verdict").className = "said";
    byId("verdict").textContent = problem.status === 404 ? `Nothing was recorded in ${named}.` : problem.message;
  }
}

const compared = (then) => `/${segment(key)}/compare/${hour}?with=${then}`;

/** Compares with another hour, null for that of the day before, and notes it in the address. */
function choose(path) {
  other = path;
  const asked = new URLSearchParams(location.search);
  if (path === null) asked.delete("with"); else asked.set("with", path);
  history.replaceState(null, "", `/ui/key?${asked}`);
  compare();
}

function move(by) {
  form.date.value = shifted(form.date.value, by * days());
  form.requestSubmit();
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  given.delete("hour");
  other = null;
  history.pushState(null, "", `/ui/key?${new URLSearchParams([...new FormData(form)])}`);
  show();
});
byId("before").addEventListener("click", () => move(-1));
byId("after").addEventListener("click", () => move(1));
byId("ms").addEventListener("input", under);
against.of.append(...Array.from({ length: 24 }, (_, each) => make("option", { value: each }, `${String(each).padStart(2, "0")}:00`)));
against.addEventListener("submit", (event) => {
  event.preventDefault();
  if (hour !== null) choose(`${against.day.value}/${against.of.value}`);
});
byId("day-before").addEventListener("click", () => { if (hour !== null) choose(null); });
byId("compare-curl").addEventListener("click", (event) => copy(curl(compared(other ?? dayBefore())), event.target));
byId("curl").addEventListener("click", (event) => copy(curl(range()), event.target));
byId("hour-curl").addEventListener("click", (event) => copy(curl(`/${segment(key)}/summary/${hour}`), event.target));
for (const button of document.querySelectorAll(".save")) button.addEventListener("click", () => save(button.dataset.plot, `${key}-${button.dataset.plot}-${hour}`, button.dataset.kind));
window.addEventListener("popstate", () => location.reload());
if (ofDots(key)) say("No browser can ask for a key of dots alone; curl --path-as-is can, as %2E%2E.", true);
else if (key) show(); else say("No key is named: choose one in the list.", true);
