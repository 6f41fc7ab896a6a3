"use strict";
/* The first screen: the finding in one sentence, and the sample that shows it. */

function headline() {
  const found = data.finding, names = data.runs.map((run) => run.name);
  $("title").append(...(found ? found.parts.map(([text, tone]) => tone ? el("b", { class: tone }, bdi(text)) : visible(text)) : [bdi(names.slice(0, 4).join(", "))]));
  $("title").classList.toggle("long", $("title").textContent.length > 130);
  const commands = data.runs.map((run) => run.samples ? `${run.command} (${plural(run.samples, "sample")})` : run.command);
  $("subtitle").textContent = [...(found ? found.notes : []), `From ${commands.slice(0, 6).join(", ")}${commands.length > 6 ? ` and ${commands.length - 6} more runs` : ""}.`].join(" ");
  if (found && found.sample !== null && found.sample < data.samples.length) witness(found);
  cards();
}

/** The picture beside the sentence: its map where there is one, what was asked, and what each method answered. */
function witness({ sample: place, methods: named }) {
  const sample = data.samples[place], images = imagesOf(place), host = $("witness"), chosen = sample.variants.filter((variant) => named.includes(variant.method)), shown = chosen.length ? chosen : sample.variants.slice(0, 2);
  const canvas = images.length && shown.some((variant) => variant.hasMaps) ? el("canvas", { "aria-hidden": "true" }) : null;
  const frame = images.length ? el("div", { class: "frame", style: `aspect-ratio:${images[0].width}/${images[0].height}` }, el("img", { src: images[0].data, alt: `The picture of sample ${visible(sample.id)}`, class: images[0].width <= 96 ? "tiny" : null }), canvas) : null;
  host.hidden = false;
  host.append(...[frame, el("p", { class: "ask" }, bdi(sample.prompt || readable(promptText(sample)))), sample.truth !== null && sample.truth !== undefined ? el("p", { class: "note" }, "truth: ", bdi(sample.truth)) : null,
    ...shown.map((variant) => el("p", { class: "answer-of" }, el("b", {}, bdi(variant.method === "none" ? "plain" : variant.method)), " ", bdi(variant.answer ?? "–"), " ", chipOf(variant))),
    el("a", { href: "#samples", click: () => show(place) }, "Look at this sample")].filter(Boolean));
  if (!canvas) return;
  const at = sample.variants.findIndex((variant) => variant.hasMaps);
  new ResizeObserver(async () => {
    const each = (await mapsOf(place))[at];
    if (!each || !each.patches.length) return;
    const word = tellingWord([each]) ?? 0, layer = Math.floor(each.mean.layers * 0.6), values = each.mean.at(Math.min(word, each.mean.words - 1), layer), own = each.patches.filter((patch) => patch.image === 0);
    drawMap(canvas, own, values, Math.max(...own.map((patch) => Math.abs(values[patch.column]))), () => false, each.maps.signed, null, "heat");
    canvas.title = `Under the map of “${visible(each.maps.words[word]?.[0] ?? "")}”, layer ${each.maps.layers[layer]}`;
  }).observe(frame);
}

function cards() {
  const cards = [];
  for (const found of data.evaluations.slice(0, 2)) {
    const pair = (found.paired || []).filter((each) => isNumber(each.delta) && !found.controls.includes(each.b)).sort((one, other) => found.better === "smaller" ? one.delta - other.delta : other.delta - one.delta)[0];
    const best = Object.entries(found.methods).filter(([, each]) => isNumber(each[found.headline]))[0];
    if (pair) {
      cards.push([`${found.bench}: ${pair.b} against ${pair.a}`, el("span", {}, signed(pair.delta, 3), el("small", {}, ` ${words(found.headline)}`)), `${TONES[toneOf(pair, found)][1]}${pair.ci95 ? `: 95% ${signed(pair.ci95[0], 3)} to ${signed(pair.ci95[1], 3)}` : ""}, ${pText(pOf(pair))}, on ${plural(found.n, "item")}.`, toneOf(pair, found)]);
    } else if (best) cards.push([`${found.bench}: ${best[0]}`, el("span", {}, figure(best[1][found.headline]), el("small", {}, ` ${words(found.headline)}`)), `On ${plural(found.n, "item")}.`]);
  }
  for (const found of data.dominance.slice(0, 3)) {
    const late = found.stages.late;
    if (!late || !isNumber(late.mdi)) continue;
    const says = late.mdi > 1.05 ? `In the last layers a text token draws ${number(late.mdi, 1)} times the attention of an image token` : late.mdi < 0.95 ? `In the last layers an image token draws ${number(1 / late.mdi, 1)} times the attention of a text token` : "In the last layers text and image draw alike";
    cards.push([found.name, el("span", {}, number(late.mdi), el("small", {}, " MDI")), `${says}${late.mdi_ci95 ? ` (95% ${number(late.mdi_ci95[0])} to ${number(late.mdi_ci95[1])})` : ""}.`]);
  }
  for (const found of data.sinks.slice(0, 1)) cards.push([`Sinks of ${found.model}`, el("span", {}, found.dims.length ? found.dims.slice(0, 3).join(", ") : "none"), found.dims.length ? "Hidden dimensions that mark tokens which soak up attention and mean nothing." : "No hidden dimension marks tokens that soak up attention."]);
  $("cards").append(...cards.slice(0, 3).map(([what, big, note, tone]) => el("div", { class: tone ? `card ${tone}` : "card" }, el("div", { class: "what" }, bdi(what)), el("div", { class: "big" }, big), el("p", {}, note))));
}
