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

/** The buckets, 64 an octave, as eight an octave: wide enough for the eye. Middles, and how many values. */
function coarse(buckets) {
  const counts = new Map();
  for (const { le, count } of buckets) {
    const at = Math.ceil(8 * Math.log2(le) - 1e-6);
    counts.set(at, (counts.get(at) || 0) + count);
  }
  const numbers = [...counts.keys()].sort((a, b) => a - b);
  return [numbers.map((each) => 2 ** ((each - 0.5) / 8)), numbers.map((each) => counts.get(each))];
}

/** How many values lie where, with the quantiles marked. */
function shape(found, quantiles) {
  const [at, counts] = coarse(found.buckets);
  const mark = (drawing) => {
    const { ctx, bbox } = drawing;
    for (const [name, value] of quantiles) {
      const x = drawing.valToPos(value, "x", true);
      if (!(x >= bbox.left && x <= bbox.left + bbox.width)) continue;
      ctx.strokeStyle = ctx.fillStyle = color(name === "p50" ? "--p50" : name === "p99" ? "--p99" : "--p90");
      ctx.lineWidth = 2;
      ctx.beginPath(); ctx.moveTo(x, bbox.top); ctx.lineTo(x, bbox.top + bbox.height); ctx.stroke();
      ctx.fillText(name, x + 4, bbox.top + 14);
    }
  };
  plot("shape", {
    series: [{}, { label: "values", stroke: color("--accent"), fill: `${color("--accent")}44`, paths: uPlot.paths.bars({ size: [1, 60] }), points: { show: false } }],
    scales: { x: { time: false, distr: 3, log: 10 } },
    axes: [axis(found.unit, { values: (_, ticks) => ticks.map((each) => (each === null ? "" : number(each))) }), axis("values", { size: 64 })],
    hooks: { draw: [mark] },
  }, [at, counts]);
}

/** Hours from left to right, latencies from bottom to top (logarithmic), the darker the more values. */
function heat(byHour) {
  const canvas = byId("heat"), ctx = canvas.getContext("2d");
  ctx.clearRect(0, 0, canvas.width, canvas.height);
  const all = byHour.flatMap((each) => (each ? each.buckets : []));
  if (!all.length) return;
  const low = Math.log2(Math.max(Math.min(...all.map((each) => each.le)), 1e-6)) - 0.1, high = Math.log2(Math.max(...all.map((each) => each.le))) + 0.1;
  const left = 70, bottom = 24, width = (canvas.width - left) / 24, steps = 40, height = (canvas.height - bottom) / steps;
  byHour.forEach((found, hour) => {
    if (!found) return;
    const cells = new Array(steps).fill(0);
    for (const { le, count } of found.buckets) cells[Math.max(0, Math.min(steps - 1, Math.floor((steps * (Math.log2(le) - low)) / (high - low))))] += count;
    const most = Math.max(...cells);
    ctx.fillStyle = color("--accent");
    cells.forEach((count, step) => {
      if (!count) return;
      ctx.globalAlpha = 0.15 + 0.85 * Math.sqrt(count / most);
      ctx.fillRect(left + hour * width + 1, canvas.height - bottom - (step + 1) * height, width - 2, height);
    });
  });
  ctx.globalAlpha = 1;
  ctx.fillStyle = color("--quiet");
  ctx.font = "14px system-ui";
  for (let hour = 0; hour < 24; hour += 3) ctx.fillText(`${String(hour).padStart(2, "0")}:00`, left + hour * width, canvas.height - 6);
  for (let mark = 0; mark <= 4; mark++) ctx.fillText(number(2 ** (low + (mark * (high - low)) / 4)), 4, canvas.height - bottom - (mark * (canvas.height - bottom - 14)) / 4);
}

/** Saves a plot as PNG. */
function save(id, name) {
  const link = make("a", { href: drawn.get(id).ctx.canvas.toDataURL("image/png"), download: `${name.replaceAll(/[^\w.-]+/g, "-")}.png` });
  link.click();
}
