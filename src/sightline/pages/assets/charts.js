"use strict";
const SERIES = 6;
const colour = (place) => `var(--s${place % SERIES})`;
const plotStyle = { background: "none", color: "var(--ink)", fontSize: "12px", fontFamily: "inherit", overflow: "visible" };
const whole = (width) => ({ tickFormat: (value) => Number.isInteger(value) ? String(value) : "", ticks: Math.max(2, Math.min(12, Math.floor(width / 42))) });

function chart(title, note, draw, numbers) {
  const host = el("div");
  drawn(host, (width) => {
    const svg = draw(width);
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", `${title}. ${note}`);
    return svg;
  });
  return el("figure", { class: "chart" }, el("figcaption", {}, el("h3", {}, title), el("p", {}, note)), host,
    numbers ? el("details", {}, el("summary", {}, "Numbers"), table(...numbers)) : null);
}

function legend(entries) {
  return el("ul", { class: "legend" }, entries.map(([name, style, kind]) => el("li", {}, el("i", { class: kind || "", style: `border-color:${style}` }), bdi(name))));
}

/** An index by layer: a line with its band for each measurement, dashed without sinks, diamonds as published. */
function byLayer(documents, index, hasDashes) {
  const rows = documents.flatMap((told, place) => told.layers.filter((layer) => isNumber(layer[index])).map((layer) => ({
    layer: layer.layer, value: layer[index], low: (layer[`${index}_ci95`] || [])[0], high: (layer[`${index}_ci95`] || [])[1], rest: layer[`${index}_no_sinks`], place, name: told.name,
  })));
  const published = documents.flatMap((told, place) => told.published.flatMap((row) => Object.values(told.stages).map((stage, at) => ({
    layer: stage.layers.reduce((sum, layer) => sum + layer, 0) / stage.layers.length, value: row[index][at], place, name: row.name,
  }))));
  const values = [...rows.flatMap((row) => [row.value, row.low, row.high]), ...published.map((row) => row.value)].filter((value) => isNumber(value) && value > 0);
  const isLog = values.length && Math.max(...values) / Math.min(...values) > 25;
  return (width) => Plot.plot({
    width, height: Math.max(210, Math.min(290, width * 0.62)), marginLeft: 38, marginBottom: 34, marginRight: 54, style: plotStyle,
    x: { label: "layer", ...whole(width - 92), inset: 8 },
    y: { label: null, grid: true, nice: true, type: isLog ? "log" : "linear", zero: !isLog, ticks: 5, tickFormat: isLog ? "~s" : undefined },
    marks: [
      Plot.ruleY([1], { stroke: "var(--soft)", strokeDasharray: "2 3" }),
      Plot.text([1], { y: (value) => value, text: () => "balanced", frameAnchor: "right", textAnchor: "start", dx: 6, fill: "var(--soft)", fontSize: 11 }),
      Plot.areaY(rows.filter((row) => isNumber(row.low)), { x: "layer", y1: "low", y2: "high", z: "place", fill: (row) => colour(row.place), fillOpacity: 0.17 }),
      hasDashes ? Plot.line(rows.filter((row) => isNumber(row.rest)), { x: "layer", y: "rest", z: "place", stroke: (row) => colour(row.place), strokeDasharray: "4 3", strokeWidth: 1.4, strokeOpacity: 0.8 }) : null,
      Plot.line(rows, { x: "layer", y: "value", z: "place", stroke: (row) => colour(row.place), strokeWidth: 2.3 }),
      Plot.dot(rows, { x: "layer", y: "value", fill: (row) => colour(row.place), r: width > 700 ? 3.4 : 2.8 }),
      Plot.dot(published, { x: "layer", y: "value", symbol: "diamond", stroke: (row) => colour(row.place), strokeWidth: 2, r: 5, fill: "var(--card)" }),
      Plot.tip(rows, Plot.pointer({ x: "layer", y: "value", title: (row) => `${row.name}\nlayer ${row.layer}: ${number(row.value)}${isNumber(row.low) ? `\n95% ${number(row.low)} to ${number(row.high)}` : ""}` })),
    ],
  });
}

function masses(documents) {
  const rows = documents.flatMap((told, place) => told.layers.map((layer) => ({ layer: layer.layer, place, name: told.name, value: ["image_mass", "video_mass", "audio_mass"].reduce((sum, name) => sum + (layer[name] || 0), 0) })));
  return (width) => Plot.plot({
    width, height: Math.max(210, Math.min(290, width * 0.62)), marginLeft: 42, marginBottom: 34, marginRight: 12, style: plotStyle,
    x: { label: "layer", ...whole(width), inset: 8 }, y: { label: null, grid: true, domain: [0, Math.max(0.05, ...rows.map((row) => row.value)) * 1.05], tickFormat: (value) => `${Math.round(100 * value)}%`, ticks: 5 },
    marks: [
      Plot.line(rows, { x: "layer", y: "value", z: "place", stroke: (row) => colour(row.place), strokeWidth: 2.3 }),
      Plot.dot(rows, { x: "layer", y: "value", fill: (row) => colour(row.place), r: 2.8 }),
      Plot.ruleY([0], { stroke: "var(--line)" }),
      Plot.tip(rows, Plot.pointer({ x: "layer", y: "value", title: (row) => `${row.name}\nlayer ${row.layer}: ${share(row.value)}` })),
    ],
  });
}

function attention() {
  const documents = data.dominance;
  if (!documents.length) return;
  const node = part("attention", "Where attention goes", "How the model splits its attention between text and image while it answers, layer by layer. Above 1, a text token draws more attention than an image token; bands are 95% intervals of the mean over samples.");
  const entries = documents.map((told, place) => [told.name, colour(place)]);
  const published = documents.flatMap((told, place) => told.published.map((row) => [`published: ${row.name} (${row.source})`, colour(place), "mark"]));
  const hasDashes = documents.length < 4 && documents.some((told) => told.layers.some((layer) => isNumber(layer.mdi_no_sinks)));
  node.append(legend([...entries, ...(hasDashes ? [["without sinks (at least the first token)", "var(--soft)", "dashed"]] : []), ...published]));
  const columns = (name) => ["layer", ...documents.flatMap((told) => [told.name, "95% interval"]), ...(name === "mdi" ? documents.map((told) => `${told.name}, no sinks`) : [])];
  const layers = [...new Set(documents.flatMap((told) => told.layers.map((layer) => layer.layer)))];
  const of = (told, layer) => told.layers.find((entry) => entry.layer === layer) || {};
  const interval = (pair) => pair ? `${number(pair[0])} to ${number(pair[1])}` : "–";
  const numbers = (name) => [columns(name), layers.map((layer) => [String(layer), ...documents.flatMap((told) => [number(of(told, layer)[name]), interval(of(told, layer)[`${name}_ci95`])]), ...(name === "mdi" ? documents.map((told) => number(of(told, layer).mdi_no_sinks)) : [])])];
  node.append(el("div", { class: "charts" },
    chart("Modality dominance (MDI)", "Attention a text token draws, over that of an image token.", byLayer(documents, "mdi", hasDashes), numbers("mdi")),
    chart("Attention efficiency (AEI)", "The text's share of attention, over its share of tokens.", byLayer(documents, "aei", false), numbers("aei")),
    chart("Attention on the image", "Share of all attention that falls on image tokens.", masses(documents), [["layer", ...documents.map((told) => told.name)], layers.map((layer) => [String(layer), ...documents.map((told) => share(of(told, layer).image_mass))])])));
}

/* Sinks, and the mean map ------------------------------------------------------------------------------------------ */

/** A number a patch, coloured from 0 to `most`. */
function cells(told, values, most, format) {
  const rows = values.map((value, place) => ({ x: place % told.cols, y: Math.floor(place / told.cols), value }));
  return (width) => {
    const side = Math.min(width, 230);
    return Plot.plot({
      width: side, height: side * told.rows / told.cols, margin: 0, style: plotStyle, padding: 0.04,
      x: { axis: null }, y: { axis: null }, color: { domain: [0, most], clamp: true, interpolate: (level) => d3.interpolateInferno(0.08 + 0.86 * level), type: "linear" },
      marks: [Plot.cell(rows, { x: "x", y: "y", fill: "value", rx: told.cols < 14 ? 4 : 0 }), Plot.tip(rows, Plot.pointer({ x: "x", y: "y", title: (row) => `row ${row.y}, column ${row.x}\n${format(row.value)}` }))],
    });
  };
}

function mean(values) { return values[0].map((_, place) => values.reduce((sum, layer) => sum + layer[place], 0) / values.length); }

function sinks() {
  if (!data.sinks.length && !data.attended.length) return;
  const node = part("sinks", "Sinks on the image", "Tokens that soak up attention whatever is asked. A few bright patches in the mean over many pictures are sinks, or a habit of place; a map that follows the pictures is even.");
  const figures = [];
  for (const told of data.sinks) {
    const rows = told.layers.flatMap((layer) => [{ layer: layer.layer, count: layer.image_sinks, kind: 0 }, { layer: layer.layer, count: layer.text_sinks, kind: 1 }]);
    const note = told.dims.length ? `Dimensions ${told.dims.join(", ")}; a token is a sink above ${number(told.tau, 1)}. Against attention itself: precision ${number(told.precision)}, recall ${number(told.recall)}.` : `No sink dimension stands out in ${plural(told.samples, "sample")}.`;
    if (told.dims.length) {
      figures.push(chart(`Sinks of ${told.model}`, note, (width) => Plot.plot({
        width, height: 230, marginLeft: 34, marginBottom: 34, style: plotStyle, x: { label: "layer", tickFormat: String }, y: { label: null, grid: true },
        marks: [Plot.barY(rows, { x: "layer", y: "count", fill: (row) => colour(row.kind), rx: 2, inset: 0.5 }), Plot.ruleY([0], { stroke: "var(--line)" })],
      }), [["layer", "image sinks", "text sinks"], told.layers.map((layer) => [String(layer.layer), number(layer.image_sinks, 1), number(layer.text_sinks, 1)])]));
    } else figures.push(el("div", { class: "card" }, el("div", { class: "what" }, "Sinks of ", bdi(told.model)), el("div", { class: "big" }, "none"), el("p", {}, note)));
  }
  for (const told of data.attended.slice(0, 6)) {
    const shares = mean(told.attention), even = shares.reduce((sum, value) => sum + value, 0) / shares.length || 1, times = shares.map((value) => value / even);
    const most = Math.max(...times);
    figures.push(chart("Attention by patch", `${told.name}: mean over ${plural(told.samples, "sample")}, all words and layers. The brightest patch draws ${number(most, 1)} times an even share.`, cells(told, times, Math.max(3, most), (value) => `${number(value, 2)} × an even share`)));
    if (told.sinks) { const often = mean(told.sinks); figures.push(chart("How often a patch is a sink", `${told.name}: share of samples and layers; at most ${share(Math.max(...often))}.`, cells(told, often, Math.max(...often, 1e-9), share))); }
  }
  node.append(el("div", { class: "charts small" }, figures));
}

const axis = (value) => String(Number(value.toPrecision(4)));

/* Methods ---------------------------------------------------------------------------------------------------------- */

function forest(rows, zero, format) {
  return (width) => Plot.plot({
    width, height: 46 + 40 * rows.length, marginLeft: Math.min(150, Math.max(50, ...rows.map((row) => 12 + 7 * row.name.length))), marginBottom: 32, marginTop: 6, style: plotStyle,
    x: { label: null, grid: true, tickFormat: format, nice: true, ticks: Math.max(2, Math.min(6, Math.floor(width / 110))) }, y: { label: null, domain: rows.map((row) => row.name), tickSize: 0, tickFormat: (name) => name.length > 20 ? `${name.slice(0, 19)}…` : name },
    marks: [
      zero === null ? null : Plot.ruleX([zero], { stroke: "var(--soft)", strokeDasharray: "2 3" }),
      Plot.ruleY(rows.filter((row) => isNumber(row.low)), { y: "name", x1: "low", x2: "high", stroke: (row) => colour(row.place), strokeWidth: 3, strokeOpacity: 0.45, strokeLinecap: "round" }),
      Plot.dot(rows, { y: "name", x: "value", fill: (row) => colour(row.place), r: 5.5, stroke: "var(--card)", strokeWidth: 1.5 }),
      Plot.text(rows, { y: "name", x: "value", text: (row) => row.label, dy: -13, fontWeight: 600, fontSize: 12, fill: "var(--ink)" }),
    ],
  });
}

function methods() {
  if (!data.evaluations.length) return;
  const node = part("methods", "Methods compared", "The same items for every method, decoded greedily. Intervals are 95% bootstrap intervals; differences are paired, item by item.");
  for (const told of data.evaluations) {
    const names = Object.keys(told.methods);
    const rows = names.map((name, place) => ({ name, place, value: told.methods[name][told.headline], low: (told.methods[name][`${told.headline}_ci95`] || [])[0], high: (told.methods[name][`${told.headline}_ci95`] || [])[1], label: figure(told.methods[name][told.headline]) })).filter((row) => isNumber(row.value));
    const pairs = (told.paired || []).filter((pair) => isNumber(pair.delta)).map((pair) => ({ name: pair.b, place: names.indexOf(pair.b), value: pair.delta, low: (pair.ci95 || [])[0], high: (pair.ci95 || [])[1], label: `${signed(pair.delta, 3)}  p ${isNumber(pair.p_value) ? Number(pair.p_value.toPrecision(2)) : "–"}` }));
    const figures = Object.entries(Object.values(told.methods)[0] || {}).filter(([name, value]) => isNumber(value) && !name.includes("ci95")).map(([name]) => name);
    const better = told.better === "smaller" ? "smaller is better" : "larger is better";
    node.append(el("div", { class: "charts" },
      chart(`${told.bench}: ${words(told.headline)}`, `${told.model}, ${plural(told.n, "item")}; ${better}.`, forest(rows, null, axis), [["method", ...figures.map(words)], names.map((name) => [name, ...figures.map((key) => figure(told.methods[name][key]))])]),
      pairs.length ? chart(`Against ${told.paired[0].a}`, "Paired difference with its interval and McNemar's p.", forest(pairs, 0, (value) => value ? signed(value, 3).replace(/0+$/, "").replace(/\.$/, "") : "0"), [["method", "difference", "95% interval", "McNemar p", "right before only", "right now only"], told.paired.map((pair) => [pair.b, signed(pair.delta, 3), pair.ci95 ? `${signed(pair.ci95[0], 3)} to ${signed(pair.ci95[1], 3)}` : "–", isNumber(pair.p_value) ? String(Number(pair.p_value.toPrecision(3))) : "–", String(pair.flips[0]), String(pair.flips[1])])]) : null));
  }
}

function training() {
  if (!data.training.length) return;
  const node = part("training", "Training", "What the trainer logged, by optimiser step.");
  const names = [...new Set(data.training.flatMap((told) => Object.keys(told.series)))].sort((one, other) => other.includes("loss") - one.includes("loss"));
  if (data.training.length > 1) node.append(legend(data.training.map((told, place) => [told.name, colour(place)])));
  node.append(el("div", { class: "charts" }, names.slice(0, 12).map((name) => {
    const rows = data.training.flatMap((told, place) => (told.series[name] || []).map(([step, value]) => ({ step, value, place })));
    return chart(words(name), data.training.filter((told) => told.series[name]).map((told) => told.name).join(", "), (width) => Plot.plot({
      width, height: 220, marginLeft: 48, marginBottom: 34, style: plotStyle, x: { label: "step", ticks: 5 }, y: { label: null, grid: true, ticks: 5, tickFormat: "~g" },
      marks: [Plot.line(rows, { x: "step", y: "value", z: "place", stroke: (row) => colour(row.place), strokeWidth: 2 }), Plot.tip(rows, Plot.pointerX({ x: "step", y: "value", title: (row) => `step ${row.step}: ${row.value.toPrecision(4)}` }))],
    }));
  })));
}

/* The first lines ---------------------------------------------------------------------------------------------------- */

function headline() {
  const names = [...new Set([...data.dominance.map((told) => told.model), ...data.evaluations.map((told) => told.model), ...data.sinks.map((told) => told.model)])];
  const told = names.length ? names : data.runs.map((run) => run.name), last = told.length > 4 ? `${told.length - 3} more` : told[told.length - 1];
  const first = told.length > 4 ? told.slice(0, 3) : told.slice(0, -1);
  $("title").append(bdi(first.length ? `${first.join(", ")} and ${last}` : last));
  const commands = data.runs.map((run) => `${run.command} (${plural(run.samples, "sample")})`);
  $("subtitle").textContent = `Does it look at the image, or answer from language? From ${commands.slice(0, 6).join(", ")}${commands.length > 6 ? ` and ${commands.length - 6} more runs` : ""}.`;
  const cards = [];
  for (const told of data.dominance.slice(0, 3)) {
    const late = told.stages.late;
    if (!late || !isNumber(late.mdi)) continue;
    const says = late.mdi > 1.05 ? `In the last layers a text token draws ${number(late.mdi, 1)} times the attention of an image token` : late.mdi < 0.95 ? `In the last layers an image token draws ${number(1 / late.mdi, 1)} times the attention of a text token` : "In the last layers text and image draw alike";
    cards.push([told.name, el("span", {}, number(late.mdi), el("small", {}, " MDI")), `${says}${late.mdi_ci95 ? ` (95% ${number(late.mdi_ci95[0])} to ${number(late.mdi_ci95[1])})` : ""}.`]);
  }
  for (const told of data.evaluations.slice(0, 2)) {
    const pair = (told.paired || []).filter((each) => isNumber(each.delta)).sort((one, other) => told.better === "smaller" ? one.delta - other.delta : other.delta - one.delta)[0];
    const best = Object.entries(told.methods).filter(([, each]) => isNumber(each[told.headline]))[0];
    if (pair) {
      const isSure = pair.ci95 && (pair.ci95[0] > 0 || pair.ci95[1] < 0);
      cards.push([`${told.bench}: ${pair.b} against ${pair.a}`, el("span", {}, signed(pair.delta, 3), el("small", {}, ` ${words(told.headline)}`)), `${isSure ? "The interval leaves zero out" : "The interval holds zero"}${pair.ci95 ? `: 95% ${signed(pair.ci95[0], 3)} to ${signed(pair.ci95[1], 3)}` : ""}, on ${plural(told.n, "item")}.`]);
    } else if (best) cards.push([`${told.bench}: ${best[0]}`, el("span", {}, figure(best[1][told.headline]), el("small", {}, ` ${words(told.headline)}`)), `On ${plural(told.n, "item")}.`]);
  }
  for (const told of data.sinks.slice(0, 1)) cards.push([`Sinks of ${told.model}`, el("span", {}, told.dims.length ? told.dims.slice(0, 3).join(", ") : "none"), told.dims.length ? "Hidden dimensions that mark tokens which soak up attention and mean nothing." : "No hidden dimension marks tokens that soak up attention."]);
  $("cards").append(...cards.slice(0, 4).map(([what, big, note]) => el("div", { class: "card" }, el("div", { class: "what" }, bdi(what)), el("div", { class: "big" }, big), el("p", {}, note))));
}
