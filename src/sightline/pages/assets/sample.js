"use strict";
/* One sample at a time: its pictures under the map of a word, a layer and a head, and its words. */

const view = { sample: -1, layer: null, head: 0, sinks: true, style: "heat", words: "attention", panes: [], turn: 0 };
const decoded = new Map(); // by sample: its variants' maps; the newest few are kept

async function bytes(text) {
  const raw = Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
  const stream = new Blob([raw]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
const floats = (text) => new Float32Array(Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0)).buffer);

/** Values of a packed array: at(word, layer[, head]) gives those of all columns. */
async function unpack(packed, isSigned) {
  const levels = await bytes(packed.bytes), scales = floats(packed.scale), shape = packed.shape;
  const width = shape[shape.length - 1], heads = shape.length === 4 ? shape[2] : 1;
  return {
    words: shape[0], layers: shape[1], heads, width,
    at(word, layer, head = 0) {
      const group = word * shape[1] + layer, start = (group * heads + head) * width, found = new Float32Array(width);
      for (let place = 0; place < width; place += 1) {
        const level = levels[start + place];
        const part = isSigned ? (level - 127) / 127 : level / 255;
        found[place] = scales[group] * part * (isSigned ? Math.abs(part) : part);
      }
      return found;
    },
  };
}

/** Where each patch lies in its picture: {column, image, box, label}. */
function patchesOf(maps, grids) {
  if (maps.boxes) return maps.boxes.map(([column, image, ...box], place) => ({ column, image, box, label: `patch ${place + 1}` }));
  const found = [];
  const frames = grids.filter((grid) => grid.modality === "video").map((grid) => grid.frame || 0);
  for (const grid of grids) {
    if (!grid.box) continue;
    const image = grid.modality === "video" ? frames.indexOf(grid.frame || 0) : grid.image;
    const [left, top, right, bottom] = grid.box;
    for (let row = 0; row < grid.rows; row += 1) for (let col = 0; col < grid.cols; col += 1) {
      const column = Array.isArray(grid.cells) ? grid.cells[row * grid.cols + col] : grid.cells + row * grid.cols + col;
      if (column < 0) continue;
      const width = (right - left) / grid.cols, height = (bottom - top) / grid.rows;
      found.push({ column, image, box: [left + col * width, top + row * height, left + (col + 1) * width, top + (row + 1) * height], label: `row ${row + 1}, column ${col + 1}${grids.length > 1 ? ` of image ${grid.image + 1}` : ""}` });
    }
  }
  return found;
}

async function decode(maps) {
  const mean = await unpack(maps.mean, maps.signed), heads = maps.heads ? await unpack(maps.heads, false) : null;
  const patches = patchesOf(maps, maps.grids);
  return { maps, mean, heads, patches, headPatches: heads ? patchesOf(maps, maps.heads.grids) : [], texts: maps.prompt.length };
}

async function mapsOf(place) {
  if (!decoded.has(place)) {
    decoded.set(place, Promise.all(data.samples[place].variants.map(({ maps }) => maps ? decode(maps) : null)));
    if (decoded.size > 12) decoded.delete(decoded.keys().next().value);
  }
  return decoded.get(place);
}

/* The list -------------------------------------------------------------------------------------------------------- */

const answers = (sample) => sample.variants.map((variant) => variant.answer ?? "");
const differs = (sample) => new Set(answers(sample)).size > 1;
const promptText = (sample) => {
  if (sample.prompt) return sample.prompt;
  const maps = (sample.variants.find((variant) => variant.maps) || {}).maps;
  return maps ? maps.prompt.map(([text, isJoined], place) => (place && !isJoined ? " " : "") + text).join("") : "";
};

function samples() {
  const host = $("samples");
  if (!data.samples.length) return;
  host.hidden = false;
  host.setAttribute("aria-labelledby", "samples-name");
  link("samples", "Samples");
  const left = data.left ? ` ${data.left} more are in the run folders.` : "";
  host.append(el("h2", { id: "samples-name" }, "Look at a sample"), el("p", { class: "lead" }, `Choose a word to see where the model looks when it writes it; point at a patch to see which words look there.${left}`));
  const film = el("div", { class: "film", id: "film", role: "listbox", "aria-label": "Samples", "aria-orientation": "horizontal" });
  const search = el("input", { type: "search", id: "search", placeholder: "Find words or ids", "aria-label": "Find samples by words or id", input: () => narrow() });
  const count = el("span", { class: "note", id: "count", role: "status" });
  const only = data.samples.some(differs) ? el("label", {}, el("input", { type: "checkbox", id: "differ", change: () => narrow() }), "only where answers differ") : null;
  host.append(el("div", { class: "row", style: "margin-top:1rem" }, search, only, count), film, el("div", { class: "viewer", id: "viewer" }));
  const seen = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      const image = data.samples[target.parentElement.dataset.place].images[0];
      if (image) { target.style.backgroundImage = `url(${image.data})`; target.classList.toggle("tiny", image.width <= 96); }
      seen.unobserve(target);
    }
  }, { root: film, rootMargin: "300px" });
  const prefixes = data.runs.map((_, run) => shared(data.samples.filter((sample) => sample.run === run).map((sample) => visible(sample.id))));
  data.samples.forEach((sample, place) => {
    const name = visible(sample.id).slice(prefixes[sample.run]) || visible(sample.id);
    const wrong = sample.variants.some((variant) => variant.error) ? " ⚠" : differs(sample) ? " ≠" : "";
    const thumb = el("span", { class: "thumb" }, sample.images.length ? null : "Aa");
    film.append(el("button", { type: "button", role: "option", "data-place": place, tabindex: place ? -1 : 0, "aria-selected": "false", "aria-label": `Sample ${visible(sample.id)}: ${visible(promptText(sample)).slice(0, 120)}`, title: visible(sample.id), click: () => show(place) },
      thumb, el("span", { class: "tag" }, bdi(name + wrong))));
    if (sample.images.length) seen.observe(thumb);
  });
  film.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) { event.preventDefault(); event.stopPropagation(); move(step, true); }
    if (event.key === "Home" || event.key === "End") { event.preventDefault(); const all = listed(); show(+all[event.key === "Home" ? 0 : all.length - 1].dataset.place, true); }
  });
  function narrow() {
    const wanted = search.value.trim().toLowerCase(), isOnly = only && $("differ").checked;
    let shown = 0;
    for (const button of film.children) {
      const sample = data.samples[button.dataset.place];
      const text = [sample.id, promptText(sample), sample.truth || "", ...answers(sample)].join("\n").toLowerCase();
      button.hidden = (wanted && !text.includes(wanted)) || (isOnly && !differs(sample));
      if (!button.hidden) shown += 1;
    }
    count.textContent = shown === data.samples.length ? plural(shown, "sample") : `${shown} of ${plural(data.samples.length, "sample")}`;
    const all = listed();
    if (all.length && !all.some((button) => +button.dataset.place === view.sample)) show(+all[0].dataset.place);
  }
  const first = data.samples.findIndex((sample) => sample.variants.some((variant) => variant.maps));
  narrow();
  show(first < 0 ? 0 : first);
  document.addEventListener("keydown", keys);
  onTheme.push(() => view.panes.forEach(paint));
}
/** How many signs all ids begin with, up to their last part. */
function shared(ids) {
  if (ids.length < 2) return 0;
  let count = 0;
  while (count < ids[0].length && ids.every((id) => id[count] === ids[0][count])) count += 1;
  return /^.*[^\p{L}\p{N}]/u.exec(ids[0].slice(0, count))?.[0].length ?? 0;
}
const listed = () => [...$("film").children].filter((button) => !button.hidden);
function move(step, hasFocus = false) {
  const all = listed(), at = all.findIndex((button) => +button.dataset.place === view.sample);
  const next = all[Math.max(0, Math.min(all.length - 1, at + step))];
  if (next) show(+next.dataset.place, hasFocus);
}

/* One sample ------------------------------------------------------------------------------------------------------ */

async function show(place, hasFocus = false) {
  const turn = view.turn += 1, sample = data.samples[place];
  for (const button of $("film").children) {
    const isChosen = +button.dataset.place === place;
    button.setAttribute("aria-selected", String(isChosen));
    button.tabIndex = isChosen ? 0 : -1;
    if (isChosen) {
      const film = $("film"), from = button.offsetLeft - film.offsetLeft;
      if (from < film.scrollLeft || from + 70 > film.scrollLeft + film.clientWidth) film.scrollLeft = from - film.clientWidth / 2;
      if (hasFocus) button.focus({ preventScroll: true });
    }
  }
  view.sample = place;
  let found;
  try { found = await mapsOf(place); } catch { found = sample.variants.map(() => null); }
  if (turn !== view.turn) return;
  const host = $("viewer"), run = data.runs[sample.run];
  const known = found.filter((each) => each);
  const layers = [...new Set(known.flatMap((each) => each.maps.layers))].sort((one, other) => one - other);
  if (!layers.includes(view.layer)) view.layer = layers.length ? layers.reduce((best, layer) => Math.abs(layer - (view.layer ?? layers[Math.floor(layers.length * 0.6)])) < Math.abs(best - (view.layer ?? layers[Math.floor(layers.length * 0.6)])) ? layer : best, layers[0]) : null;
  const heads = Math.max(0, ...known.map((each) => each.heads ? each.heads.heads : 0));
  view.head = Math.min(view.head, heads);
  Object.assign(view, { layers, heads });
  const prompt = promptText(sample), lines = [sample.truth !== null && sample.truth !== undefined ? `truth: ${sample.truth}` : "", data.runs.length > 1 ? `from ${run.name}` : "", `sample ${sample.id}`];
  host.replaceChildren(
    el("div", { class: "question" }, el("h3", {}, bdi(sample.prompt || (known.length ? "" : prompt) || readable(prompt) || sample.id)), el("p", {}, bdi(lines.filter(Boolean).join(" · ")))),
    known.length ? controls(known) : el("p", { class: "note", style: "padding:0 1.25rem .8rem" }, noMaps(sample, run)),
    !known.length ? el("div", { class: "panes" }, answersOf(sample)) : el("div", { class: "panes" }, sample.variants.map((variant, at) => pane(sample, variant, found[at], sample.variants.length === 1))),
    known.length ? help() : "");
  view.panes = [...host.querySelectorAll(".pane")].map((node) => node.state).filter(Boolean);
  view.panes.forEach(paint);
  const narrowest = known.flatMap((each) => each.maps.notes);
  if (narrowest.length) host.querySelector(".keys").prepend(el("p", { class: "note", style: "margin-top:0" }, `Shown so that the page stays small: ${[...new Set(narrowest)].join("; ")}.`));
}
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
  const told = !hasSinks ? "No sinks are known here: measure with --sinks FILE." : isLooked ? "Sinks, as measure --sinks was given them, and the first token." : "Only the first token is known as a sink: measure with --sinks FILE for those on the image.";
  const sinks = known.some((each) => each.maps.kind === "attention") ? el("label", { title: told }, el("input", { type: "checkbox", id: "sinkswitch", checked: view.sinks, disabled: !hasSinks, "aria-description": told, change: (event) => { view.sinks = event.target.checked; view.panes.forEach(paint); say(view.sinks ? "With sinks" : "Without sinks"); } }), "sinks") : null;
  const style = el("select", { id: "style", "aria-label": "How the map is drawn", change: (event) => { view.style = event.target.value; view.panes.forEach(paint); } }, ["heat", "spotlight", "patches"].map((name) => el("option", { value: name, selected: name === view.style }, name)));
  return el("div", { class: "controls row", role: "group", "aria-label": "What the map shows" },
    el("label", {}, "layer", layer, el("output", { id: "layer-said", for: "layer" }, `${view.layer}`)),
    view.heads ? el("label", {}, "head", head, el("output", { id: "head-said", for: "head" }, view.head ? String(view.head - 1) : "mean")) : null,
    sinks, el("label", {}, "map", style), known.some((each) => isGrounded(each.maps)) ? el("label", {}, "answer by", el("select", { id: "words", "aria-label": "What colours the words of the answer", change: (event) => { view.words = event.target.value; view.panes.forEach(paint); } }, ["attention", "grounding"].map((name) => el("option", { value: name, selected: name === view.words }, name)))) : null);
}
const isGrounded = (maps) => Boolean(maps.grounding && maps.grounding.some(isNumber));
function setLayer(layer) {
  view.layer = layer;
  $("layer").value = view.layers.indexOf(layer);
  $("layer").setAttribute("aria-valuetext", `layer ${layer}`);
  $("layer-said").textContent = layer;
  view.panes.forEach(paint);
}
function setHead(head) {
  view.head = head;
  $("head").value = head;
  $("head").setAttribute("aria-valuetext", head ? `head ${head - 1}` : "mean of heads");
  $("head-said").textContent = head ? String(head - 1) : "mean";
  view.panes.forEach(paint);
}

const chipOf = (variant) => variant.right === true ? el("span", { class: "chip right" }, "✓ right") : variant.right === false ? el("span", { class: "chip wrong" }, "✗ wrong") : null;

/** The pictures once, and every method's answer. */
function answersOf(sample) {
  const pictures = sample.images.map((image, place) => el("div", { class: "frame", style: `aspect-ratio:${image.width}/${image.height}` }, el("img", { src: image.data, alt: `Image ${place + 1} of sample ${visible(sample.id)}`, class: image.width <= 96 ? "tiny" : null, width: image.width, height: image.height })));
  return el("article", { class: pictures.length ? "pane alone" : "pane", "aria-label": "Answers" }, pictures.length ? el("div", { class: "pictures" }, pictures) : null, el("div", { class: "strip answers" }, sample.variants.map((variant) => [
    el("h5", {}, bdi(variant.name)), el("p", {}, variant.error ? el("span", { class: "bad" }, bdi(variant.error)) : bdi(variant.answer === "" ? "(empty)" : variant.answer ?? "–"), " ", chipOf(variant))])));
}

function pane(sample, variant, found, isAlone) {
  const chip = chipOf(variant);
  const kind = found && found.maps.kind === "impact" ? el("span", { class: "chip" }, `impact, ${found.maps.mode}`) : null;
  const node = el("article", { class: isAlone ? "pane alone" : "pane", "aria-label": visible(variant.name) }, el("header", {}, el("h4", {}, bdi(variant.name)), kind, chip));
  const pictures = el("div", { class: "pictures" });
  const frames = sample.images.map((image, place) => {
    const canvas = found ? el("canvas", { tabindex: 0, role: "application", "data-testid": "map", "aria-roledescription": "patch map", "aria-label": `Map over image ${place + 1}. Arrow keys go from patch to patch.` }) : null;
    pictures.append(el("div", { class: "frame", style: `aspect-ratio:${image.width}/${image.height}` }, el("img", { src: image.data, alt: `Image ${place + 1} of sample ${visible(sample.id)}`, class: image.width <= 96 ? "tiny" : null, width: image.width, height: image.height }), canvas));
    return { canvas, image };
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
  const state = { found, frames, node, word: firstWord(found.maps.words), patch: null, isHovering: false, answerWords: [], promptWords: [], minis: [], sum: el("p", { class: "sum" }) };
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
    frames.forEach(({ canvas }, place) => canvas && point(state, canvas, place));
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
const firstWord = (all) => Math.max(0, all.findIndex(([text]) => /[\p{L}\p{N}]/u.test(text)));
const thin = (all, most) => all.length <= most ? all : [...new Set(Array.from({ length: most }, (_, place) => all[Math.round(place * (all.length - 1) / (most - 1))]))];

function choose(state, word, isHover = false) {
  if (isHover) state.hover = word;
  else {
    state.word = word;
    state.answerWords.forEach((button, place) => { button.setAttribute("aria-pressed", String(place === word)); button.tabIndex = place === word ? 0 : -1; });
  }
  paint(state);
  if (!isHover) say(state.sum.textContent);
}

/* Patches: by pointer and by arrow keys --------------------------------------------------------------------------- */

function point(state, canvas, image) {
  const patches = () => shownPatches(state).filter((patch) => patch.image === image);
  const under = (event) => {
    const box = canvas.getBoundingClientRect(), x = (event.clientX - box.left) / box.width, y = (event.clientY - box.top) / box.height;
    return patches().filter(({ box: [left, top, right, bottom] }) => x >= left && x < right && y >= top && y < bottom).sort((one, other) => area(one) - area(other))[0] || null;
  };
  const mark = (patch, isFixed = false) => { if (isFixed) state.fixed = patch; state.patch = patch || state.fixed || null; paint(state); };
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

