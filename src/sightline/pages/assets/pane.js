"use strict";
/* The map of a word on its picture, with the words beside: what the report and the live page share. */

const STYLES = ["heat", "spotlight", "patches"];

/** A prompt without the marks of its template, for a heading. */
const readable = (text) => text.replace(/<[^<>]{1,40}>/g, " ").replace(/\s+([?!.,:;])/g, "$1").replace(/\s+/g, " ").trim();

function noMaps(sample, run) {
  if (run.command === "eval") return "An evaluation keeps answers, not maps: measure the same data with --maps to see where the model looks.";
  return "No maps of this sample: measure with --maps to see where the model looks.";
}

function controls(known) {
  const layers = view.layers;
  const layer = el("input", { type: "range", id: "layer", min: 0, max: layers.length - 1, step: 1, value: layers.indexOf(view.layer), "aria-label": "Layer", input: (event) => setLayer(layers[+event.target.value]) });
  const head = el("input", { type: "range", id: "head", min: 0, max: view.heads, step: 1, value: view.head, "aria-label": "Head; 0 is the mean", input: (event) => setHead(+event.target.value) });
  const hasSinks = known.some((each) => each.maps.sinks);
  const isLooked = known.some((each) => each.maps.hasSinks);
  const how = data.runs.length ? "measure with --sinks FILE" : "start the app with --sinks FILE";
  const told = !hasSinks ? `No sinks are known here: ${how}.` : isLooked ? "Sinks, as --sinks gave them, and the first token." : `Only the first token is known as a sink: ${how} for those on the image.`;
  const sinks = known.some((each) => each.maps.kind === "attention") ? el("label", { title: told }, el("input", { type: "checkbox", id: "sinkswitch", checked: view.sinks, disabled: !hasSinks, "aria-description": told, change: (event) => { view.sinks = event.target.checked; view.panes.forEach(paint); changed(); say(view.sinks ? "With sinks" : "Without sinks"); } }), "sinks") : null;
  const style = el("select", { id: "style", "aria-label": "How the map is drawn", change: (event) => { view.style = event.target.value; view.panes.forEach(paint); changed(); } }, STYLES.map((name) => el("option", { value: name, selected: name === view.style }, name)));
  return el("div", { class: "controls row", role: "group", "aria-label": "What the map shows" },
    el("label", {}, "layer", layer, el("output", { id: "layer-said", for: "layer" }, `${view.layer}`)),
    view.heads ? el("label", {}, "head", head, el("output", { id: "head-said", for: "head" }, view.head ? String(view.head - 1) : "mean")) : null,
    sinks, el("label", {}, "map", style), known.some((each) => isGrounded(each.maps)) ? el("label", {}, "answer by", el("select", { id: "words", "aria-label": "What colours the words of the answer", change: (event) => { view.words = event.target.value; view.panes.forEach(paint); changed(); } }, ["attention", "grounding"].map((name) => el("option", { value: name, selected: name === view.words }, name)))) : null);
}
const isGrounded = (maps) => Boolean(maps.grounding && maps.grounding.some(isNumber));
function setLayer(layer) {
  view.layer = layer;
  $("layer").value = view.layers.indexOf(layer);
  $("layer").setAttribute("aria-valuetext", `layer ${layer}`);
  $("layer-said").textContent = layer;
  view.panes.forEach(paint);
  changed();
}
function setHead(head) {
  view.head = head;
  $("head").value = head;
  $("head").setAttribute("aria-valuetext", head ? `head ${head - 1}` : "mean of heads");
  $("head-said").textContent = head ? String(head - 1) : "mean";
  view.panes.forEach(paint);
  changed();
}

const chipOf = (variant) => variant.right === true ? el("span", { class: "chip right" }, "✓ right") : variant.right === false ? el("span", { class: "chip wrong" }, "✗ wrong") : null;

/** The pictures once, and every method's answer. */
function answersOf(sample) {
  const pictures = sample.images.map((image, place) => el("div", { class: "frame", style: `aspect-ratio:${image.width}/${image.height}` }, el("img", { src: image.data, alt: `Image ${place + 1} of sample ${visible(sample.id)}`, class: image.width <= 96 ? "tiny" : null, width: image.width, height: image.height })));
  return el("article", { class: pictures.length ? "pane alone" : "pane", "aria-label": "Answers" }, pictures.length ? el("div", { class: "pictures" }, pictures) : null, el("div", { class: "strip answers" }, sample.variants.map((variant) => [
    el("h5", {}, bdi(variant.name)), el("p", {}, variant.error ? el("span", { class: "bad" }, bdi(variant.error)) : bdi(variant.answer === "" ? "(empty)" : variant.answer ?? "–"), " ", chipOf(variant))])));
}

function pane(sample, variant, found, isAlone, word) {
  const chip = chipOf(variant);
  const kind = found && found.maps.kind === "impact" ? el("span", { class: "chip" }, `impact, ${found.maps.mode}`) : null;
  const node = el("article", { class: isAlone ? "pane alone" : "pane", "aria-label": visible(variant.name) }, el("header", {}, el("h4", {}, bdi(variant.name)), kind, chip));
  const pictures = el("div", { class: "pictures" });
  const frames = sample.images.map((image, place) => {
    const canvas = found ? el("canvas", { tabindex: 0, role: "application", "data-testid": "map", "aria-roledescription": "patch map", "aria-label": `Map over image ${place + 1}. Arrow keys go from patch to patch.` }) : null;
    const picture = (alt) => el("img", { src: image.data, alt, class: image.width <= 96 ? "tiny" : null, width: image.width, height: image.height });
    const frame = (...inside) => el("div", { class: "frame", style: `aspect-ratio:${image.width}/${image.height}` }, ...inside);
    const light = found && found.patches.some((patch) => patch.image === place) ? el("canvas", { class: "light", "aria-hidden": "true" }) : null;
    const img = picture(`Image ${place + 1} of sample ${visible(sample.id)}`);
    pictures.append(light ? el("div", { class: "twin" }, frame(img, canvas), frame(picture(""), light)) : frame(img, canvas));
    return { canvas, light, image, img };
  });
  if (found && !sample.images.length && found.patches.length) {
    const canvas = el("canvas", { tabindex: 0, role: "application", "aria-roledescription": "patch map", "aria-label": "Map without its image. Arrow keys go from patch to patch." });
    pictures.append(el("div", { class: "frame", style: "aspect-ratio:1" }, canvas), el("p", { class: "note" }, "The image is not in this run folder."));
    frames.push({ canvas, image: null });
  }
  const strip = el("div", { class: "strip" });
  node.append(pictures, strip);
  if (variant.error) strip.append(el("p", { class: "bad" }, bdi(variant.error)));
  if (!found) {
    if (variant.answer !== null && variant.answer !== undefined) strip.append(el("h5", {}, "Answer"), el("p", { style: "font-size:1.12rem;font-weight:560" }, bdi(variant.answer === "" ? "(empty)" : variant.answer)));
    return node;
  }
  const state = { found, frames, node, word: Math.max(0, Math.min(word ?? firstWord(found.maps.words), Math.min(found.mean.words, found.maps.words.length) - 1)), patch: null, isHovering: false, answerWords: [], promptWords: [], minis: [], sum: el("p", { class: "sum" }) };
  node.state = state;
  if (frames.length) {
    state.bar = el("canvas", { width: 256, height: 1, "aria-hidden": "true" });
    state.low = el("span", {}, "0");
    state.high = el("span");
    state.miniRow = el("div", { class: "minis", "aria-hidden": "true" }, found.maps.layers.length > 1 && found.patches.length ? thin(found.maps.layers, 16).map((layer) => {
      const canvas = el("canvas", { width: 40, height: 40 });
      const button = el("button", { type: "button", tabindex: -1, title: `layer ${layer}`, click: () => setLayer(layer) }, canvas, String(layer));
      state.minis.push({ layer, canvas, button });
      return button;
    }) : []);
    pictures.append(el("div", { class: "scale" }, state.low, state.bar, state.high), state.miniRow);
    frames.forEach(({ canvas, light, img }, place) => {
      if (canvas) point(state, canvas, place);
      if (light) point(state, light, place);
      if (img && !img.complete) img.addEventListener("load", () => { delete state.ground; paint(state); }, { once: true });
    });
  }
  const isImpact = found.maps.kind === "impact";
  state.heading = el("h5");
  strip.append(
    state.heading,
    el("p", { role: "group", "aria-label": "Words of the answer", dir: "auto" }, found.maps.words.slice(0, found.mean.words).map(([text, isJoined], place) => {
      const button = el("button", { type: "button", "data-testid": "word", class: isJoined ? "word joined" : "word", tabindex: place === state.word ? 0 : -1, "aria-pressed": String(place === state.word),
        click: () => choose(state, place), pointerenter: (event) => event.pointerType === "mouse" && choose(state, place, true), pointerleave: () => choose(state, null, true) }, bdi(text === "" ? "∅" : text));
      state.answerWords.push(button);
      return button;
    })),
    el("h5", {}, isImpact ? `Prompt, coloured by impact: ${found.maps.measure}` : "Prompt, coloured by the attention that the chosen word pays it"),
    el("p", { dir: "auto" }, found.maps.prompt.map(([text, isJoined]) => {
      const word = el("span", { class: isJoined ? "word joined" : "word" }, bdi(text));
      state.promptWords.push(word);
      return word;
    })),
    state.sum);
  strip.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step || !event.target.closest("button.word")) return;
    event.preventDefault();
    event.stopPropagation();
    choose(state, Math.max(0, Math.min(state.answerWords.length - 1, state.word + step)));
    state.answerWords[state.word].focus();
  });
  return node;
}
/** The word with the most to tell: where two methods' maps differ most, or where attention gathers most on one patch. */
function tellingWord(known) {
  const [one, other] = known.filter((each) => each.maps.kind === "attention");
  if (!one) return undefined;
  const isWord = (place) => /[\p{L}\p{N}]{2}/u.test(one.maps.words[place]?.[0] ?? ""), isSame = (place) => other.maps.words[place]?.[0] === one.maps.words[place]?.[0];
  const score = (place) => {
    let sum = 0;
    for (let layer = 0; layer < one.mean.layers; layer += 1) {
      const row = one.mean.at(place, layer), hidden = new Set(one.maps.sinks ? one.maps.sinks[layer] : []);
      if (other && other.mean.width === row.length && layer < other.mean.layers) { const beside = other.mean.at(place, layer); for (let at = 0; at < row.length; at += 1) sum += Math.abs(row[at] - beside[at]); }
      else sum += one.patches.reduce((most, { column }) => hidden.has(column) ? most : Math.max(most, row[column]), 0);
    }
    return sum;
  };
  const count = Math.min(one.mean.words, one.maps.words.length, other ? other.mean.words : Infinity);
  const places = Array.from({ length: count }, (_, place) => place), open = places.filter(isWord), alike = other ? open.filter(isSame) : open;
  const chosen = alike.length ? alike : open.length ? open : places;
  return chosen.reduce((best, place) => { const found = score(place); return found > best[1] ? [place, found] : best; }, [chosen[0], -1])[0];
}
const firstWord = (all) => Math.max(0, all.findIndex(([text]) => /[\p{L}\p{N}]/u.test(text)));
const thin = (all, most) => all.length <= most ? all : [...new Set(Array.from({ length: most }, (_, place) => all[Math.round(place * (all.length - 1) / (most - 1))]))];

function choose(state, word, isHover = false) {
  if (isHover) state.hover = word;
  else {
    state.word = word;
    state.answerWords.forEach((button, place) => { button.setAttribute("aria-pressed", String(place === word)); button.tabIndex = place === word ? 0 : -1; });
  }
  paint(state);
  if (!isHover) { changed(); say(state.sum.textContent); }
}

/* Patches: by pointer and by arrow keys --------------------------------------------------------------------------- */

function point(state, canvas, image) {
  const patches = () => shownPatches(state).filter((patch) => patch.image === image);
  const under = (event) => {
    const box = canvas.getBoundingClientRect(), x = (event.clientX - box.left) / box.width, y = (event.clientY - box.top) / box.height;
    return patches().filter(({ box: [left, top, right, bottom] }) => x >= left && x < right && y >= top && y < bottom).sort((one, other) => area(one) - area(other))[0] || null;
  };
  const mark = (patch, isFixed = false) => { if (isFixed) state.fixed = patch; state.patch = patch || state.fixed || null; paint(state); if (isFixed) changed(); };
  canvas.addEventListener("pointermove", (event) => { if (event.pointerType === "mouse") mark(under(event)); });
  canvas.addEventListener("pointerleave", () => mark(null));
  canvas.addEventListener("click", (event) => { const patch = under(event); mark(patch && state.fixed && patch.label === state.fixed.label ? null : patch, true); say(state.sum.textContent); });
  canvas.addEventListener("keydown", (event) => {
    const way = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[event.key];
    if (event.key === "Escape") mark(null, true);
    if (!way) return;
    event.preventDefault();
    event.stopPropagation();
    const all = patches(), from = state.fixed && state.fixed.image === image ? state.fixed : null;
    if (!all.length) return;
    mark(from ? neighbour(all, from, way) : all[0], true);
    say(state.sum.textContent);
  });
}
const area = ({ box: [left, top, right, bottom] }) => (right - left) * (bottom - top);
const centre = ({ box: [left, top, right, bottom] }) => [(left + right) / 2, (top + bottom) / 2];
function neighbour(all, from, [dx, dy]) {
  const [x, y] = centre(from);
  const ahead = all.map((patch) => { const [px, py] = centre(patch), along = (px - x) * dx + (py - y) * dy, aside = Math.abs((px - x) * dy) + Math.abs((py - y) * dx); return { patch, along, cost: along + 4 * aside }; }).filter(({ along }) => along > 1e-6);
  return ahead.length ? ahead.sort((one, other) => one.cost - other.cost)[0].patch : from;
}

/* Keys ------------------------------------------------------------------------------------------------------------ */

function help() {
  const keyOf = (...names) => names.map((name) => el("kbd", {}, name));
  return el("details", { class: "keys" }, el("summary", {}, "Keys"), el("p", { style: "line-height:2.1;margin:.3rem 0 0" }, keyOf("n"), " ", keyOf("p"), " next and previous sample · ", keyOf("←"), " ", keyOf("→"), " word · ", keyOf("↑"), " ", keyOf("↓"), " layer · ", keyOf("["), " ", keyOf("]"), " head · ", keyOf("s"), " sinks · on the map, arrow keys go from patch to patch and ", keyOf("Esc"), " leaves it"));
}
function keys(event) {
  if (event.defaultPrevented || event.altKey || event.ctrlKey || event.metaKey) return;
  const target = event.target, isTyping = target.matches?.("input[type=search], select, textarea, [contenteditable]"), isRange = target.matches?.("input[type=range]");
  if (isTyping) return;
  const isInside = Boolean(target.closest?.("#viewer"));
  const pane = target.closest?.(".pane")?.state || view.panes[0];
  const stepLayer = (step) => { if (view.layers.length && view.panes.length) { const at = view.layers.indexOf(view.layer) + step; setLayer(view.layers[Math.max(0, Math.min(view.layers.length - 1, at))]); say(`Layer ${view.layer}`); } };
  const stepHead = (step) => { if (view.heads) { setHead(Math.max(0, Math.min(view.heads, view.head + step))); say(view.head ? `Head ${view.head - 1}` : "Mean of heads"); } };
  const stepWord = (step) => view.panes.forEach((each) => { if (each === pane || view.panes.length > 1) choose(each, Math.max(0, Math.min(each.answerWords.length - 1, each.word + step))); });
  const acts = { n: () => move(1), p: () => move(-1), "[": () => stepHead(-1), "]": () => stepHead(1), s: () => { const box = $("sinkswitch"); if (box && !box.disabled) box.click(); } };
  if (isInside && !isRange) Object.assign(acts, { ArrowLeft: () => stepWord(-1), ArrowRight: () => stepWord(1), ArrowUp: () => stepLayer(1), ArrowDown: () => stepLayer(-1) });
  if (acts[event.key]) { if (event.key.startsWith("Arrow")) event.preventDefault(); acts[event.key](); }
}

