"use strict";
/* Measured indices, impact and sinks: what whole runs found of where a model looks. */

/** An index by layer: a line with its band for each measurement, dashed without sinks, diamonds as published. */
function byLayer(documents, index, hasDashes) {
  const rows = documents.flatMap((found) => found.layers.filter((layer) => isNumber(layer[index])).map((layer) => ({
    layer: layer.layer, value: layer[index], low: (layer[`${index}_ci95`] || [])[0], high: (layer[`${index}_ci95`] || [])[1], rest: layer[`${index}_no_sinks`], place: found.place, name: found.name,
  })));
  const published = documents.flatMap((found) => found.published.flatMap((row) => Object.values(found.stages).map((stage, at) => ({
    layer: stage.layers.reduce((sum, layer) => sum + layer, 0) / stage.layers.length, value: row[index][at], place: found.place, name: row.name,
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
  const rows = documents.flatMap((found) => found.layers.map((layer) => ({ layer: layer.layer, place: found.place, name: found.name, value: ["image_mass", "video_mass", "audio_mass"].reduce((sum, name) => sum + (layer[name] || 0), 0) })));
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

/** Measurements of one data set and query set stand in one chart; others are not to be compared, and have their own. */
function attention() {
  const documents = data.dominance.map((found, place) => ({ ...found, place }));
  if (!documents.length) return;
  const node = part("attention", "Where attention goes", "How the model splits its attention between text and image while it answers, layer by layer. Above 1, a text token draws more attention than an image token; bands are 95% intervals of the mean over samples.");
  const groups = d3.groups(documents, (found) => `${found.data} ${found.queries}`);
  for (const [, group] of groups) {
    if (groups.length > 1) node.append(el("h3", { class: "of" }, "Measured on ", bdi(group[0].data || "the model's own samples"), `, queries ${words(String(group[0].queries))}`));
    attentionOf(node, group);
  }
}
function attentionOf(node, documents) {
  const entries = documents.map((found) => [found.name, colour(found.place)]);
  const published = documents.flatMap((found) => found.published.map((row) => [`published: ${row.name} (${row.source})`, colour(found.place), "mark"]));
  const hasDashes = documents.length < 4 && documents.some((found) => found.layers.some((layer) => isNumber(layer.mdi_no_sinks)));
  node.append(legend([...entries, ...(hasDashes ? [["without sinks (at least the first token)", "var(--soft)", "dashed"]] : []), ...published]));
  const layers = [...new Set(documents.flatMap((found) => found.layers.map((layer) => layer.layer)))];
  const of = (found, layer) => found.layers.find((entry) => entry.layer === layer) || {};
  const numbers = (name) => [["layer", ...documents.flatMap((found) => [found.name, `${found.name}, 95%`]), ...(name === "mdi" ? documents.map((found) => `${found.name}, no sinks`) : [])],
    layers.map((layer) => [layer, ...documents.flatMap((found) => [of(found, layer)[name] ?? "–", of(found, layer)[`${name}_ci95`] ?? "–"]), ...(name === "mdi" ? documents.map((found) => of(found, layer).mdi_no_sinks ?? "–") : [])])];
  node.append(el("div", { class: "charts" },
    chart("Modality dominance (MDI)", "Attention a text token draws, over that of an image token.", byLayer(documents, "mdi", hasDashes), numbers("mdi")),
    chart("Attention efficiency (AEI)", "The text's share of attention, over its share of tokens.", byLayer(documents, "aei", false), numbers("aei")),
    chart("Attention on the image", "Share of all attention that falls on image tokens.", masses(documents), [["layer", ...documents.map((found) => found.name)], layers.map((layer) => [layer, ...documents.map((found) => of(found, layer).image_mass ?? "–")])])));
}

/* Impact ------------------------------------------------------------------------------------------------------------ */

function impact() {
  if (!data.impact.length) return;
  const groups = d3.groups(data.impact, (found) => found.heading);
  groups.forEach(([heading, group], at) => impactOf(part(at ? `impact-${at + 1}` : "impact", heading, group[0].shows), group));
}
function impactOf(node, group) {
  node.append(el("div", { class: "charts" }, group.map((found) => {
    const names = Object.keys(found.series);
    const rows = names.flatMap((name, place) => found.series[name].map((value, at) => ({ layer: found.layers[at], value, name, place })));
    const place = data.samples.findIndex((sample) => sample.run === found.run);
    const draw = (width) => Plot.plot({
      width, height: Math.max(210, Math.min(290, width * 0.62)), marginLeft: 48, marginBottom: 34, marginRight: 12, style: plotStyle,
      x: { label: "layer", ...whole(width), inset: 8 }, y: { label: found.unit || null, grid: true, ticks: 5, tickFormat: "~g", nice: true, zero: true },
      marks: [Plot.ruleY([0], { stroke: "var(--soft)", strokeDasharray: "2 3" }), Plot.line(rows, { x: "layer", y: "value", z: "place", stroke: (row) => colour(row.place), strokeWidth: 2.3, strokeDasharray: (row) => row.place ? "5 3" : "none" }),
        Plot.dot(rows, { x: "layer", y: "value", fill: (row) => colour(row.place), r: 2.8 }), Plot.tip(rows, Plot.pointer({ x: "layer", y: "value", title: (row) => `${row.name}\nlayer ${row.layer}: ${row.value.toPrecision(3)}` }))],
    });
    const merged = { sum: "summed over sources", largest: "the largest of all sources", mean: "the mean of all sources" }[found.merged];
    const below = found.signed && { hidden: " Below zero: hiding makes the answer less likely.", "taken away": " Below zero: without the heads the answer is less likely." }[found.acts] || "";
    const note = `${found.name}, ${found.mode}: ${found.measure}, ${merged}, mean of ${plural(found.prompts, "prompt")}.${below}${found.left ? ` ${found.left} of other layers are left out.` : ""}`;
    const drawn = chart(found.chart, note, draw, [["layer", ...names], found.layers.map((layer, at) => [layer, ...names.map((name) => found.series[name][at])])]);
    drawn.querySelector("figcaption").append(legend(names.map((name, at) => [name, colour(at), at ? "dashed" : null])));
    if (place >= 0) drawn.append(el("p", { class: "note" }, el("a", { href: "#samples", click: () => show(place, true) }, "Look at its map, token by token")));
    return drawn;
  })));
}

/* Sinks, and the mean map ------------------------------------------------------------------------------------------ */

/** A number a patch, coloured from 0 to `most`. */
function cells(found, values, most, format) {
  const rows = values.map((value, place) => ({ x: place % found.cols, y: Math.floor(place / found.cols), value }));
  return (width) => {
    const side = Math.min(width, 230);
    return Plot.plot({
      width: side, height: side * found.rows / found.cols, margin: 0, style: plotStyle, padding: 0.04,
      x: { axis: null }, y: { axis: null }, color: { domain: [0, most], clamp: true, interpolate: (level) => d3.interpolateInferno(0.08 + 0.86 * level), type: "linear" },
      marks: [Plot.cell(rows, { x: "x", y: "y", fill: "value", rx: found.cols < 14 ? 4 : 0 }), Plot.tip(rows, Plot.pointer({ x: "x", y: "y", title: (row) => `row ${row.y}, column ${row.x}\n${format(row.value)}` }))],
    });
  };
}

const grid = (found, values) => [["row", "column", "value"], values.map((value, place) => [Math.floor(place / found.cols), place % found.cols, value])];
function mean(values) { return values[0].map((_, place) => values.reduce((sum, layer) => sum + layer[place], 0) / values.length); }

function sinks() {
  if (!data.sinks.length && !data.attended.length) return;
  const node = part("sinks", "Sinks on the image", "Tokens that soak up attention whatever is asked. A few bright patches in the mean over many pictures are sinks, or a habit of place; a map that follows the pictures is even.");
  const figures = [];
  for (const found of data.sinks) {
    const rows = found.layers.flatMap((layer) => [{ layer: layer.layer, count: layer.image_sinks, kind: 0 }, { layer: layer.layer, count: layer.text_sinks, kind: 1 }]);
    const note = found.dims.length ? `Dimensions ${found.dims.join(", ")}; a token is a sink above ${number(found.tau, 1)}. Against attention itself: precision ${number(found.precision)}, recall ${number(found.recall)}.` : `No sink dimension stands out in ${plural(found.samples, "sample")}.`;
    if (found.dims.length) {
      figures.push(chart(`Sinks of ${found.model}`, note, (width) => Plot.plot({
        width, height: 230, marginLeft: 34, marginBottom: 34, style: plotStyle, x: { label: "layer", tickFormat: String }, y: { label: null, grid: true },
        marks: [Plot.barY(rows, { x: "layer", y: "count", fill: (row) => colour(row.kind), rx: 2, inset: 0.5 }), Plot.ruleY([0], { stroke: "var(--line)" })],
      }), [["layer", "image sinks", "text sinks"], found.layers.map((layer) => [layer.layer, layer.image_sinks, layer.text_sinks])]));
    } else figures.push(el("div", { class: "card" }, el("div", { class: "what" }, "Sinks of ", bdi(found.model)), el("div", { class: "big" }, "none"), el("p", {}, note)));
  }
  for (const found of data.attended.slice(0, 6)) {
    const shares = mean(found.attention), even = shares.reduce((sum, value) => sum + value, 0) / shares.length || 1, times = shares.map((value) => value / even);
    const most = Math.max(...times);
    figures.push(chart("Attention by patch", `${found.name}: mean over ${plural(found.samples, "sample")}, all words and layers. The brightest patch draws ${number(most, 1)} times an even share.`, cells(found, times, Math.max(3, most), (value) => `${number(value, 2)} × an even share`), grid(found, times)));
    if (found.sinks) { const often = mean(found.sinks); figures.push(chart("How often a patch is a sink", `${found.name}: share of samples and layers; at most ${share(Math.max(...often))}.`, cells(found, often, Math.max(...often, 1e-9), share), grid(found, often))); }
  }
  node.append(el("div", { class: "charts small" }, figures));
}
