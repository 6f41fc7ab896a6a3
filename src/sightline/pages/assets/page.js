"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);

/** An element with attributes and children; text is always text. Functions are listeners. */
function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") node.addEventListener(key, value);
    else if (key === "class") node.className = value;
    else if (key === "style") node.style.cssText = value;
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return node;
}

/** What cannot be seen is shown by a sign: NUL, line ends and other controls; halves of characters by U+FFFD. */
function visible(text) {
  const shown = String(text).replace(/[\u0000-\u001f\u007f]/g, (sign) => sign === "\n" ? "⏎" : sign === "\t" ? "⇥" : sign === "\u007f" ? "␡" : String.fromCharCode(0x2400 + sign.charCodeAt(0)));
  return shown.toWellFormed ? shown.toWellFormed() : shown;
}
const bdi = (text) => el("bdi", { dir: "auto" }, visible(text));
const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
const number = (value, digits = 2) => isNumber(value) ? value.toFixed(digits) : "–";
const figure = (value) => !isNumber(value) ? "–" : Number.isInteger(value) ? String(value) : Math.abs(value) <= 2 ? value.toFixed(3) : value.toFixed(1);
const share = (value) => !isNumber(value) ? "–" : `${(100 * value).toFixed(value < 0.1 ? 1 : 0)} %`;
const signed = (value, digits) => isNumber(value) ? (value < 0 ? "−" : "+") + Math.abs(value).toFixed(digits) : "–";
const say = (text) => { $("said").textContent = text; };
const words = (name) => name.replaceAll("_", " ");
const pText = (value) => !isNumber(value) ? "p unknown" : value < 0.001 ? "p < 0.001" : `p = ${Number(value.toPrecision(2))}`;
const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

/* Colours: as the system says, unless chosen. */
const themes = ["auto", "light", "dark"];
const system = matchMedia("(prefers-color-scheme: dark)");
const onTheme = [];
let theme = "auto";
try { theme = localStorage.getItem("sightline-theme") || "auto"; } catch { /* no storage for this file */ }
function applyTheme() {
  const isDark = theme === "dark" || (theme !== "light" && system.matches);
  document.documentElement.dataset.theme = isDark ? "dark" : "light";
  document.documentElement.style.colorScheme = isDark ? "dark" : "light";
  $("theme").setAttribute("aria-label", `Colours: ${theme === "auto" ? "as the system" : theme}`);
  $("theme").title = $("theme").getAttribute("aria-label");
  $("theme").firstElementChild.textContent = { auto: "◐", light: "☀", dark: "☾" }[theme] || "◐";
  onTheme.forEach((redraw) => redraw());
}
$("theme").addEventListener("click", () => {
  theme = themes[(themes.indexOf(theme) + 1) % themes.length];
  try { localStorage.setItem("sightline-theme", theme); } catch { /* as above */ }
  applyTheme();
});
system.addEventListener("change", applyTheme);
applyTheme();

/** A table that scrolls in its own box. Cells: text, numbers, and [low, high] of an interval. */
const cellText = (cell) => Array.isArray(cell) ? `${figure(cell[0])} to ${figure(cell[1])}` : typeof cell === "number" ? figure(cell) : cell ?? "–";
function table(columns, rows) {
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Numbers" }, el("table", {},
    el("thead", {}, el("tr", {}, columns.map((column) => el("th", { scope: "col" }, bdi(column))))),
    el("tbody", {}, rows.map((row) => el("tr", {}, row.map((cell, place) => place ? el("td", {}, cellText(cell)) : el("th", { scope: "row" }, bdi(cellText(cell)))))))));
}
/** The same table for other programs: every number whole, an interval in two columns. */
function csvOf(columns, rows) {
  const isPair = columns.map((_, place) => rows.some((row) => Array.isArray(row[place])));
  const quoted = (cell) => { const text = String(cell ?? ""); return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text; };
  const spread = (row, isHead) => row.flatMap((cell, place) => !isPair[place] ? [cell === "–" ? "" : cell] : isHead ? [`${cell} low`, `${cell} high`] : Array.isArray(cell) ? cell : ["", ""]);
  return [spread(columns, true), ...rows.map((row) => spread(row, false))].map((row) => row.map(quoted).join(",")).join("\n") + "\n";
}
function save(name, content, type) {
  const address = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
  el("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

/** A part of the page, with its entry in the navigation. */
function part(id, name, lead) {
  const node = el("section", { id, "aria-labelledby": `${id}-name` }, el("h2", { id: `${id}-name` }, name), lead ? el("p", { class: "lead" }, lead) : null);
  $("sections").append(node);
  link(id, name);
  return node;
}
function link(id, name) { $("parts").append(el("a", { href: `#${id}` }, name)); }

/** Draws now and whenever the width changes; draw is given the width. */
function drawn(host, draw) {
  let width = 0;
  new ResizeObserver(([entry]) => {
    const now = Math.round(entry.contentRect.width);
    if (now && now !== width) { width = now; host.replaceChildren(draw(width)); }
  }).observe(host);
  return host;
}

function settings() {
  const host = $("settings"), names = data.runs.map((run) => run.name), isOne = names.length === 1;
  host.append(el("h2", {}, "Settings and versions"), el("p", { class: "lead" }, isOne ? "What every number on this page depends on." : "What every number on this page depends on: first what differs between the runs."));
  const counts = { name: "samples", values: data.runs.map((run) => run.failed ? `${run.samples} (${plural(run.failed, "result")} failed)` : String(run.samples)) };
  counts.differs = new Set(counts.values).size > 1;
  const rows = [...data.settings.filter((row) => row.differs), counts, ...data.settings.filter((row) => !row.differs)];
  host.append(el("div", { class: "scroll settings", tabindex: "0", role: "region", "aria-label": "Settings" }, el("table", {},
    el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "setting"), names.map((name) => el("th", { scope: "col" }, bdi(name))))),
    el("tbody", {}, rows.map(({ name, values, differs }) => el("tr", { class: differs ? "differs" : null }, el("th", { scope: "row" }, visible(words(name))),
      differs || isOne ? values.map((value) => el("td", {}, bdi(value ?? "–"))) : el("td", { colspan: values.length }, bdi(values[0] ?? "–"))))))));
  for (const run of data.runs) for (const note of run.notes) host.append(el("p", { class: "note" }, el("b", {}, bdi(run.name)), `: ${note}`));
  host.append(el("details", { class: "note" }, el("summary", {}, "Libraries inside this page"), el("pre", {}, $("licenses").content.textContent)));
  link("settings", "Settings");
}
