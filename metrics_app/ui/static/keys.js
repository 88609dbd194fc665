"use strict";
// The list of keys: ranked over all workers by the service itself.

const LIMIT = 25;
const STATS = "count,median,p95,p99,max";
const form = byId("ask");
let shown = 0; // which showing is the latest: answers of an earlier one are dropped
let next = null;

for (let hour = 0; hour < 24; hour++) form.hour.append(make("option", { value: hour }, `${String(hour).padStart(2, "0")}:00`));

function restore() {
  const given = new URLSearchParams(location.search);
  form.date.value = given.get("date") || today();
  for (const name of ["hour", "contains", "sort"]) if (given.has(name)) form[name].value = given.get(name);
}

function question(cursor) {
  const asked = new URLSearchParams({ date: form.date.value, sort: form.sort.value, limit: LIMIT });
  if (form.sort.value !== "change") asked.set("stats", STATS);
  if (form.hour.value !== "") asked.set("hour", form.hour.value);
  if (form.contains.value) asked.set("contains", form.contains.value);
  if (cursor) asked.set("cursor", cursor);
  return `/keys?${asked}`;
}

async function show(cursor = null) {
  const mine = ++shown;
  const body = byId("table").tBodies[0];
  if (!cursor) body.replaceChildren();
  say("Asking all workers ...");
  byId("csv").href = `${question(null)}&format=csv`;
  try {
    const page = await ask(question(cursor));
    if (mine !== shown) return;
    next = page.next;
    byId("more").hidden = next === null;
    const rows = page.ranked.map((entry) => row(entry));
    body.append(...rows.map((each) => each.line));
    say(summaryOf(page, body.rows.length), !page.complete);
    await Promise.all(rows.map((each) => each.fill()));
  } catch (problem) {
    if (mine === shown) say(problem.message, true);
  }
}

function summaryOf(page, count) {
  const said = [count === 0 ? "No key has values then." : `${number(count)} keys${page.next === null ? "" : ", and more"}.`];
  if (!page.complete) said.push(`Incomplete: nobody answered for partitions ${page.unanswered.join(", ")}.`);
  if (page.stale) said.push("Some answers are from copies that may be behind.");
  if (page.lost_records) said.push(`${number(page.lost_records)} records were lost before they were counted.`);
  return said.join(" ");
}

/** A line of the table, whose comparison and sparkline come later. */
function row(entry) {
  const { key, unit } = entry;
  const time = form.hour.value === "" ? form.date.value : `${form.date.value}/${form.hour.value}`;
  const link = `/ui/key?${new URLSearchParams({ key, date: form.date.value, ...(form.hour.value === "" ? {} : { hour: form.hour.value }) })}`;
  const values = { ...(entry.values || {}) };
  if (entry.stat !== "compare") values[entry.stat] ??= entry.value;
  const figures = ["count", "median", "p95", "p99", "max"].map((stat) => make("td", {}, stat === "count" ? number(values[stat]) : withUnit(values[stat] ?? null, unit)));
  const change = make("td", {}), spark = make("td", {}), said = make("td", { class: "left quiet" }, notes(entry));
  const line = make("tr", {}, make("td", {}, make("a", { href: link }, key)), ...figures, change, spark, said);
  const fill = async () => {
    await Promise.all([
      entry.stat === "compare" ? filled(figures, key, time, unit) : null,
      compared(change, key, time),
      sparkline(spark, key),
    ]);
  };
  return { line, fill };
}

async function filled(figures, key, time, unit) {
  const found = await ask(`/${segment(key)}/summary/${time}`).catch(() => null);
  if (found) ["count", "median", "p95", "p99", "max"].forEach((stat, at) => { figures[at].textContent = stat === "count" ? number(found.count) : withUnit(found.values[stat], unit); });
}

async function compared(cell, key, time) {
  const [date, hour] = time.split("/");
  const then = hour === undefined ? shifted(date, -1) : `${shifted(date, -1)}/${hour}`;
  const found = await ask(`/${segment(key)}/compare/${time}?with=${then}`).catch(() => null);
  if (!found) { cell.textContent = "no data then"; cell.className = "quiet"; return; }
  const p99 = found.shifts.find((each) => each.stat === "p99") || found.shifts[found.shifts.length - 1];
  const factor = p99 && p99.ratio !== null ? ` p99 × ${number(p99.ratio)}` : "";
  cell.textContent = `${found.verdict}${factor}`;
  cell.className = found.verdict === "slower" ? "bad" : found.verdict === "unclear" ? "quiet" : "";
}

async function sparkline(cell, key) {
  const day = await ask(`/${segment(key)}/p99/${form.date.value}`).catch(() => null);
  if (!day) return;
  const values = day.hours.map((each) => each.value);
  const most = Math.max(...values.filter((each) => each !== null), 1e-9);
  let path = "", open = false;
  values.forEach((value, hour) => {
    if (value === null) { open = false; return; }
    const at = `${(hour * 120) / 23} ${24 - (22 * value) / most}`;
    path += open ? `L${at}` : `M${at}h.1`;
    open = true;
  });
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  for (const [name, value] of [["viewBox", "0 0 121 25"], ["class", "spark"], ["role", "img"], ["aria-label", `p99 by hour, at most ${number(most)} ${day.unit}`]]) svg.setAttribute(name, value);
  const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
  line.setAttribute("d", path);
  svg.append(line);
  cell.append(svg);
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const asked = new URLSearchParams([...new FormData(form)].filter(([, value]) => value !== ""));
  history.pushState(null, "", `/?${asked}`);
  show();
});
byId("more").addEventListener("click", () => show(next));
byId("curl").addEventListener("click", (event) => copy(curl(question(null)), event.target));
window.addEventListener("popstate", () => { restore(); show(); });
restore();
show();
