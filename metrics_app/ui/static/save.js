"use strict";
// Plots as files: PNG as they are on the screen, SVG drawn anew from their numbers.

const SVG = "http://www.w3.org/2000/svg";

function shapeOf(name, attributes, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

const text = (said, x, y, anchor, pixels) => shapeOf("text", { x, y, "text-anchor": anchor, "font-size": 12 * pixels, "font-family": "sans-serif", fill: color("--quiet") }, said);

/** A sheet with a title, for who hears it, and a ground, so that it can be read wherever it is put. */
function sheet(width, height, title) {
  const ground = shapeOf("rect", { width, height, fill: color("--panel") });
  return shapeOf("svg", { xmlns: SVG, width, height, viewBox: `0 0 ${width} ${height}` }, shapeOf("title", {}, title), ground);
}

/** A plot of uPlot, in pixels of its canvas. */
function svgOfPlot(made, title) {
  const { canvas } = made.ctx, { left, top, width, height } = made.bbox, pixels = uPlot.pxRatio; // of the canvas, for one of the screen
  const drawing = sheet(canvas.width, canvas.height, title);
  made.axes.forEach((axis, nth) => drawing.append(...ticks(made, axis, nth === 0, pixels)));
  const inside = shapeOf("svg", { x: left, y: top, width, height, viewBox: `${left} ${top} ${width} ${height}` }); // what is beyond is cut
  made.series.forEach((series, nth) => { if (nth && series.show) inside.append(...(series.bars ? bars : line)(made, nth, pixels)); });
  for (const [name, value, stroke] of made.marks || []) {
    const x = made.valToPos(value, "x", true);
    inside.append(shapeOf("path", { d: `M${x} ${top}v${height}`, stroke, "stroke-width": 2 * pixels }), text(name, x + 4 * pixels, top + 14 * pixels, "start", pixels));
  }
  const names = made.series.slice(1).filter((each) => each.show);
  names.forEach((each, nth) => drawing.append(shapeOf("text", { x: left + 8 * pixels + nth * (width / names.length), y: 12 * pixels, "font-size": 12 * pixels, "font-family": "sans-serif", fill: each.stroke(made, nth + 1) }, each.label)));
  drawing.append(inside);
  return drawing;
}

function ticks(made, axis, isX, pixels) {
  const { left, top, width, height } = made.bbox, found = [];
  axis._splits.forEach((value, nth) => {
    const at = made.valToPos(value, isX ? "x" : "y", true), said = axis._values[nth];
    if (!Number.isFinite(at)) return;
    found.push(shapeOf("path", { d: isX ? `M${at} ${top}v${height}` : `M${left} ${at}h${width}`, stroke: color("--line") }));
    String(said ?? "").split("\n").forEach((part, row) => found.push(isX ? text(part, at, top + height + (16 + 14 * row) * pixels, "middle", pixels) : text(part, left - 6 * pixels, at + 4 * pixels, "end", pixels)));
  });
  return [...found, isX ? text(axis.label, left + width, made.ctx.canvas.height - 4 * pixels, "end", pixels) : text(axis.label, 4 * pixels, 12 * pixels, "start", pixels)];
}

/** Where the values of a series are; null where there is none. */
const places = (made, nth) => made.data[0].map((x, at) => {
  const value = made.data[nth][at], place = value === null ? [NaN, NaN] : [made.valToPos(x, "x", true), made.valToPos(value, "y", true)];
  return place.every(Number.isFinite) ? place : null;
});

function line(made, nth, pixels) {
  const series = made.series[nth], stroke = series.stroke(made, nth), at = places(made, nth);
  const d = at.map((each, index) => (each ? `${at[index - 1] ? "L" : "M"}${each[0].toFixed(1)} ${each[1].toFixed(1)}` : "")).join("");
  const path = shapeOf("path", { d, fill: "none", stroke, "stroke-width": 2 * pixels, "stroke-dasharray": (series.dash || []).join(" ") });
  return [path, ...(series.points.size > 1 ? at.filter(Boolean).map(([cx, cy]) => shapeOf("circle", { cx, cy, r: 2 * pixels, fill: stroke })) : [])];
}

function bars(made, nth) {
  const at = places(made, nth).filter(Boolean), foot = made.bbox.top + made.bbox.height, fill = made.series[nth].stroke(made, nth);
  const wide = Math.max(1, 0.9 * Math.min(...at.slice(1).map((each, index) => each[0] - at[index][0]), 40));
  return at.map(([x, y]) => shapeOf("rect", { x: x - wide / 2, y, width: wide, height: Math.max(0, foot - y), fill, "fill-opacity": 0.5 }));
}

function svgOfHeat({ cells, labels, width, height }, title) {
  const drawing = sheet(width, height, title), fill = color("--accent");
  drawing.append(...cells.map(([x, y, wide, high, alpha]) => shapeOf("rect", { x, y, width: wide, height: high, fill, "fill-opacity": alpha })));
  drawing.append(...labels.map(([said, x, y]) => text(said, x, y, "start", 1)));
  return drawing;
}

/** Saves a plot as a file of that kind, "png" or "svg". */
function save(id, name, kind) {
  const made = drawn.get(id), file = `${name.replaceAll(/[^\w.-]+/g, "-")}.${kind}`;
  if (!made && !(id === "heat" && heated)) return;
  const canvas = made ? made.ctx.canvas : byId("heat");
  const href = kind === "png" ? canvas.toDataURL("image/png") : URL.createObjectURL(new Blob([new XMLSerializer().serializeToString(made ? svgOfPlot(made, name) : svgOfHeat(heated, name))], { type: "image/svg+xml" }));
  make("a", { href, download: file }).click();
  if (kind === "svg") setTimeout(() => URL.revokeObjectURL(href), 10000);
}
