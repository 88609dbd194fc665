"use strict";
// Plots: bands by hour, the distribution of an hour, hours against latencies.

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const axis = (label, more = {}) => ({ label, stroke: color("--quiet"), grid: { stroke: color("--line"), width: 1 }, ticks: { stroke: color("--line") }, labelSize: 22, ...more });
const drawn = new Map(); // by the id of its place

/** Replaces the plot in a place. */
function plot(id, options, data) {
  const place = byId(id);
  drawn.get(id)?.destroy();
  place.replaceChildren();
  const made = new uPlot({ width: place.clientWidth || 600, height: 300, ...options }, data, place);
  drawn.set(id, made);
  return made;
}

window.addEventListener("resize", () => { for (const [id, each] of drawn) each.setSize({ width: byId(id).clientWidth, height: 300 }); });

/** p50, p90, p99 and max of each hour; `chosen` is called with the start of an hour that is clicked. */
function bands(hours, unit, chosen) {
  const at = hours.map((each) => Date.parse(each.start) / 1000);
  const of = (stat) => hours.map((each) => (each.values ? each.values[stat] : null));
  const series = [{}, ...[["p50", "median"], ["p90", "p90"], ["p99", "p99"], ["max", "max"]].map(([label]) => ({ label, stroke: color(`--${label}`), width: 2, points: { show: true, size: 5 }, value: (_, value) => (value === null ? "" : `${number(value)} ${unit}`) }))];
  const made = plot("bands", {
    series,
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
    scales: { y: { distr: 3, log: 10 } },
    axes: [axis("UTC", { values: days() === 1 ? "{HH}:{mm}" : "{MMM} {D}\n{HH}:{mm}" }), axis(unit, { values: (_, ticks) => ticks.map((each) => (each === null ? "" : number(each))), size: 64 })],
  }, [at, of("median"), of("p90"), of("p99"), of("max")]);
  made.over.addEventListener("click", () => { if (made.cursor.idx !== null) chosen(hours[made.cursor.idx].start); });
}

/** The buckets, 64 an octave, as eight an octave: wide enough for the eye. How many values, by the number of the bucket. */
function octaves(buckets) {
  const counts = new Map();
  for (const { le, count } of buckets) {
    const at = Math.ceil(8 * Math.log2(Math.max(le, 1e-9)) - 1e-6);
    counts.set(at, (counts.get(at) || 0) + count);
  }
  return counts;
}

const middle = (at) => 2 ** ((at - 0.5) / 8);

/** How many values lie where, with the quantiles marked. */
function shape(found, quantiles) {
  const counts = octaves(found.buckets), numbers = [...counts.keys()].sort((a, b) => a - b);
  const marks = quantiles.map(([name, value]) => [name, value, color(name === "p50" ? "--p50" : name === "p99" ? "--p99" : "--p90")]);
  const mark = (drawing) => {
    const { ctx, bbox } = drawing;
    for (const [name, value, stroke] of marks) {
      const x = drawing.valToPos(value, "x", true);
      if (!(x >= bbox.left && x <= bbox.left + bbox.width)) continue;
      ctx.strokeStyle = ctx.fillStyle = stroke;
      ctx.lineWidth = 2;
      ctx.beginPath(); ctx.moveTo(x, bbox.top); ctx.lineTo(x, bbox.top + bbox.height); ctx.stroke();
      ctx.fillText(name, x + 4, bbox.top + 14);
    }
  };
  const made = plot("shape", {
    series: [{}, { label: "values", bars: true, stroke: color("--accent"), fill: `${color("--accent")}44`, paths: uPlot.paths.bars({ size: [1, 60] }), points: { show: false } }],
    scales: { x: { time: false, distr: 3, log: 10 } },
    axes: [axis(found.unit, { values: (_, ticks) => ticks.map((each) => (each === null ? "" : number(each))) }), axis("values", { size: 64 })],
    hooks: { draw: [mark] },
  }, [numbers.map(middle), numbers.map((each) => counts.get(each))]);
  made.marks = marks;
}

/** Two hours on top of each other: what share of its values lies where, so that it does not matter how many each has. */
function both(now, then, names) {
  const counts = [now, then].map((each) => octaves(each.buckets)), seen = counts.flatMap((each) => [...each.keys()]);
  const low = Math.min(...seen) - 1, numbers = Array.from({ length: Math.max(...seen) + 2 - low }, (_, each) => low + each);
  const shares = counts.map((each) => { const all = [...each.values()].reduce((sum, count) => sum + count, 0); return numbers.map((at) => (100 * (each.get(at) || 0)) / all); });
  const looks = [{ stroke: color("--accent"), fill: `${color("--accent")}33` }, { stroke: color("--p50"), fill: `${color("--p50")}22`, dash: [8, 5] }];
  plot("both", {
    series: [{ value: (_, value) => (value === null ? "" : withUnit(value, now.unit)) }, ...looks.map((look, nth) => ({ label: names[nth], width: 2, points: { show: false }, value: (_, value) => (value === null ? "" : `${number(value)} %`), ...look }))],
    scales: { x: { time: false, distr: 3, log: 10 } },
    axes: [axis(now.unit, { values: (_, ticks) => ticks.map((each) => (each === null ? "" : number(each))) }), axis("% of its values", { size: 64 })],
  }, [numbers.map(middle), ...shares]);
}

let heated = null; // what the heatmap shows

/** Hours from left to right, latencies from bottom to top (logarithmic), the darker the more values. */
function heat(byHour) {
  const canvas = byId("heat"), ctx = canvas.getContext("2d");
  heated = heatOf(byHour, canvas.width, canvas.height);
  byId("heat-saves").hidden = false;
  ctx.clearRect(0, 0, canvas.width, canvas.height);
  ctx.fillStyle = color("--accent");
  for (const [x, y, wide, high, alpha] of heated.cells) { ctx.globalAlpha = alpha; ctx.fillRect(x, y, wide, high); }
  ctx.globalAlpha = 1;
  ctx.fillStyle = color("--quiet");
  ctx.font = "14px system-ui";
  for (const [said, x, y] of heated.labels) ctx.fillText(said, x, y);
}

/** The heatmap as numbers: cells [x, y, width, height, alpha] and labels [text, x, y]. */
function heatOf(byHour, width, height) {
  const found = { cells: [], labels: [], width, height }, all = byHour.flatMap((each) => (each ? each.buckets : []));
  if (!all.length) return found;
  const log = (each) => Math.log2(Math.max(each.le, 1e-9)), low = Math.min(...all.map(log)) - 0.1, high = Math.max(...all.map(log)) + 0.1;
  const left = 70, bottom = 24, wide = (width - left) / 24, steps = 40, step = (height - bottom) / steps;
  byHour.forEach((each, hour) => {
    if (!each) return;
    const cells = new Array(steps).fill(0);
    for (const bucket of each.buckets) cells[Math.max(0, Math.min(steps - 1, Math.floor((steps * (log(bucket) - low)) / (high - low))))] += bucket.count;
    const most = Math.max(...cells);
    cells.forEach((count, nth) => { if (count) found.cells.push([left + hour * wide + 1, height - bottom - (nth + 1) * step, wide - 2, step, 0.15 + 0.85 * Math.sqrt(count / most)]); });
  });
  for (let hour = 0; hour < 24; hour += 3) found.labels.push([`${String(hour).padStart(2, "0")}:00`, left + hour * wide, height - 6]);
  for (let mark = 0; mark <= 4; mark++) found.labels.push([number(2 ** (low + (mark * (high - low)) / 4)), 4, height - bottom - (mark * (height - bottom - 14)) / 4]);
  return found;
}
