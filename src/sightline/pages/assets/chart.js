"use strict";
/* What all charts share: colours, the frame with its numbers, and taking a chart along. */

const SERIES = 6;
const colour = (place) => `var(--s${place % SERIES})`;
const plotStyle = { background: "none", color: "var(--ink)", fontSize: "12px", fontFamily: "inherit", overflow: "visible" };
const whole = (width) => ({ tickFormat: (value) => Number.isInteger(value) ? String(value) : "", ticks: Math.max(2, Math.min(12, Math.floor(width / 42))) });
const axis = (value) => String(Number(value.toPrecision(4)));

/** numbers: [columns, rows], shown as a table and saved as CSV. */
function chart(title, note, draw, numbers) {
  const host = el("div", { class: "plot" });
  drawn(host, (width) => {
    const svg = draw(width);
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", `${title}. ${note}`);
    return svg;
  });
  const file = title.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "") || "chart";
  const button = (kind, act) => el("button", { type: "button", "aria-label": `Save ${title} as ${kind}`, title: `Save as ${kind}`, click: act }, kind);
  const saves = el("span", { class: "saves" }, button("SVG", () => save(`${file}.svg`, svgText(host.querySelector("svg")), "image/svg+xml")), button("PNG", () => savePng(file, host.querySelector("svg"))),
    numbers ? button("CSV", () => save(`${file}.csv`, csvOf(...numbers), "text/csv")) : null);
  return el("figure", { class: "chart" }, el("figcaption", {}, el("h3", {}, bdi(title)), el("p", {}, note)), host,
    el("div", { class: "below" }, numbers ? el("details", {}, el("summary", {}, "Numbers"), table(...numbers)) : null, saves));
}

function legend(entries) {
  return el("ul", { class: "legend" }, entries.map(([name, style, kind]) => el("li", {}, el("i", { class: kind || "", style: `border-color:${style}` }), bdi(name))));
}

/* Taking a chart along: its colours as they are seen, so that it needs no style sheet. */
const KEPT = ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-opacity", "stroke-dasharray", "stroke-linecap", "opacity", "font-size", "font-weight", "font-family", "text-anchor"];
function svgText(svg) {
  const copy = svg.cloneNode(true), all = [svg, ...svg.querySelectorAll("*")], copies = [copy, ...copy.querySelectorAll("*")];
  all.forEach((node, place) => {
    if (node.tagName === "style") return;
    const style = getComputedStyle(node);
    for (const name of KEPT) copies[place].setAttribute(name, style.getPropertyValue(name));
    copies[place].removeAttribute("class");
    copies[place].removeAttribute("style");
  });
  copy.querySelectorAll("style, [aria-label=tip]").forEach((node) => node.remove());
  const width = svg.clientWidth || +svg.getAttribute("width"), height = svg.clientHeight || +svg.getAttribute("height"), edge = 12;
  const attributes = { xmlns: "http://www.w3.org/2000/svg", width: width + 2 * edge, height: height + 2 * edge, viewBox: `${-edge} ${-edge} ${width + 2 * edge} ${height + 2 * edge}` };
  for (const [name, value] of Object.entries(attributes)) copy.setAttribute(name, value);
  const ground = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  for (const [name, value] of Object.entries({ x: -edge, y: -edge, width: width + 2 * edge, height: height + 2 * edge, fill: getComputedStyle(document.documentElement).getPropertyValue("--card").trim() })) ground.setAttribute(name, value);
  copy.prepend(ground);
  return new XMLSerializer().serializeToString(copy);
}
async function savePng(file, svg) {
  const picture = new Image(), text = svgText(svg);
  picture.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
  await picture.decode();
  const sheet = el("canvas", { width: Math.round(picture.width * 3), height: Math.round(picture.height * 3) });
  sheet.getContext("2d").drawImage(picture, 0, 0, sheet.width, sheet.height);
  sheet.toBlob((blob) => save(`${file}.png`, blob), "image/png");
}
