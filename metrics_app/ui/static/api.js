"use strict";
// Questions to the service, and what all views share. Texts go into the page as text, never as HTML.

const TOKEN = "metrics-app token";

class Problem extends Error {
  constructor(status, detail) { super(detail); this.status = status; }
}

/** The JSON answer of a path; asks for a token where one is needed. */
async function ask(path, method = "GET") {
  const token = sessionStorage.getItem(TOKEN);
  const reply = await fetch(path, { method, headers: token ? { Accept: "application/json", Authorization: `Bearer ${token}` } : { Accept: "application/json" } });
  if (reply.status === 401) { await signIn(token !== null); return ask(path, method); }
  const document = await reply.json();
  if (!reply.ok) throw new Problem(reply.status, document.detail || document.title || `status ${reply.status}`);
  return document;
}

let signingIn = null;

function signIn(refused) {
  signingIn ??= new Promise((resolve) => {
    const field = make("input", { type: "password", autocomplete: "current-password", required: true });
    const said = make("p", { class: refused ? "bad" : "quiet" }, refused ? "This token is not known, or may not do that." : "Kept until this tab is closed.");
    const form = make("form", { method: "dialog" }, make("label", {}, "Token ", field), said, make("button", {}, "Sign in"));
    const dialog = make("dialog", { "aria-label": "Sign in" }, form);
    document.body.append(dialog);
    form.addEventListener("submit", () => { sessionStorage.setItem(TOKEN, field.value); dialog.remove(); signingIn = null; resolve(); });
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    dialog.showModal();
  });
  return signingIn;
}

/** An element with attributes and children; a text is a text, whatever is in it. */
function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(key, ""); else if (value !== false && value !== null) element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

const byId = (id) => document.getElementById(id);

/** A key as a segment of a path. No browser asks for one that is "." or "..", however it is encoded. */
const segment = (key) => encodeURIComponent(key);
const ofDots = (key) => key === "." || key === "..";

function say(text, bad = false) {
  const state = byId("state");
  state.textContent = text;
  state.className = bad ? "state bad" : "state";
}

/** A number for people, with three or more digits that count. */
function number(value) {
  if (value === null || value === undefined) return "";
  if (Number.isInteger(value) && Math.abs(value) < 1e15) return value.toLocaleString("en");
  const size = Math.abs(value);
  return value.toLocaleString("en", { maximumFractionDigits: size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 4 });
}

const withUnit = (value, unit) => (value === null ? "" : `${number(value)} ${unit}`);
const today = () => new Date().toISOString().slice(0, 10);
const shifted = (date, days) => new Date(Date.parse(`${date}T00:00:00Z`) + days * 86400000).toISOString().slice(0, 10);

/** What is to be known beside a number: never in a footnote. */
function notes(answer) {
  const said = [];
  if (answer.missing) said.push(`${number(answer.missing)} missing`);
  if (answer.missing === null) said.push("unknown how many are missing");
  if (answer.lost_records) said.push(`${number(answer.lost_records)} records lost`);
  if (answer.late) said.push(`${number(answer.late)} late`);
  if (answer.duplicates) said.push(`${number(answer.duplicates)} came twice, counted once`);
  if (answer.stale) said.push("from a copy that may be behind");
  if (answer.exact === false) said.push(`within ${number(100 * answer.error_bound)} %`);
  if (answer.final === false) said.push("still running");
  return said.join(", ");
}

async function copy(text, button) {
  const before = button.textContent;
  try { await navigator.clipboard.writeText(text); button.textContent = "Copied"; } catch { window.prompt("Copy:", text); }
  setTimeout(() => { button.textContent = before; }, 1500);
}

const curl = (path) => `curl '${location.origin}${path.replaceAll("'", "%27")}'`;

function tick() {
  const now = new Date();
  const local = now.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  byId("clock").textContent = `${now.toISOString().slice(0, 16).replace("T", " ")} UTC, ${local} ${zone}`;
}
tick();
setInterval(tick, 20000);
