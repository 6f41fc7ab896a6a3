"use strict";
/* One sample at a time: its pictures under the map of a word, a layer and a head, and its words. */

const view = { sample: -1, layer: null, head: 0, sinks: true, style: "heat", words: "attention", panes: [], turn: 0, onChange: null };
const changed = () => view.onChange?.();
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

/* The page holds its samples in pieces of JSON, each parsed when a sample of it is looked at; the newest few are kept. */
const pieces = new Map();
function pieceOf(place) {
  const { piece, place: at } = data.samples[place];
  if (!pieces.has(piece)) {
    pieces.set(piece, JSON.parse($(`piece-${piece}`).textContent));
    if (pieces.size > 8) pieces.delete(pieces.keys().next().value);
  }
  return pieces.get(piece)[at];
}
const imagesOf = (place) => pieceOf(place)[0];

async function mapsOf(place) {
  if (!decoded.has(place)) {
    decoded.set(place, Promise.all(pieceOf(place)[1].map((maps) => maps ? decode(maps) : null)));
    if (decoded.size > 12) decoded.delete(decoded.keys().next().value);
  }
  return decoded.get(place);
}

/* The list -------------------------------------------------------------------------------------------------------- */

const answers = (sample) => sample.variants.map((variant) => variant.answer ?? "");
const differs = (sample) => new Set(answers(sample)).size > 1;
const promptText = (sample) => sample.prompt || sample.text || "";

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
      const image = imagesOf(+target.parentElement.dataset.place)[0];
      if (image) { target.style.backgroundImage = `url(${image.data})`; target.classList.toggle("tiny", image.width <= 96); }
      seen.unobserve(target);
    }
  }, { root: film, rootMargin: "300px" });
  const prefixes = data.runs.map((_, run) => shared(data.samples.filter((sample) => sample.run === run).map((sample) => visible(sample.id))));
  data.samples.forEach((sample, place) => {
    const name = visible(sample.id).slice(prefixes[sample.run]) || visible(sample.id);
    const wrong = sample.variants.some((variant) => variant.error) ? " ⚠" : differs(sample) ? " ≠" : "";
    const thumb = el("span", { class: "thumb" }, sample.sizes.length ? null : "Aa");
    film.append(el("button", { type: "button", role: "option", "data-place": place, tabindex: place ? -1 : 0, "aria-selected": "false", "aria-label": `Sample ${visible(sample.id)}: ${visible(promptText(sample)).slice(0, 120)}`, title: visible(sample.id), click: () => show(place).then(changed) },
      thumb, el("span", { class: "tag" }, bdi(name + wrong))));
    if (sample.sizes.length) seen.observe(thumb);
  });
  film.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) { event.preventDefault(); event.stopPropagation(); move(step, true); }
    if (event.key === "Home" || event.key === "End") { event.preventDefault(); const all = listed(); show(+all[event.key === "Home" ? 0 : all.length - 1].dataset.place, true).then(changed); }
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
  narrow();
  if (!restore()) show(data.first ?? 0);
  view.onChange = remember;
  window.addEventListener("hashchange", restore);
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
  if (next) show(+next.dataset.place, hasFocus).then(changed);
}

/* One sample ------------------------------------------------------------------------------------------------------ */

async function show(place, hasFocus = false, wanted = {}) {
  const turn = view.turn += 1, sample = data.samples[place];
  const film = $("film"), button = film.children[place];
  for (const other of film.querySelectorAll("[aria-selected=true], [tabindex='0']")) { other.setAttribute("aria-selected", "false"); other.tabIndex = -1; }
  button.setAttribute("aria-selected", "true");
  button.tabIndex = 0;
  const from = button.offsetLeft - film.offsetLeft;
  if (from < film.scrollLeft || from + 70 > film.scrollLeft + film.clientWidth) film.scrollLeft = from - film.clientWidth / 2;
  if (hasFocus) button.focus({ preventScroll: true });
  view.sample = place;
  let found;
  try { found = await mapsOf(place); } catch { found = sample.variants.map(() => null); }
  if (turn !== view.turn) return;
  const host = $("viewer"), run = data.runs[sample.run], images = imagesOf(place);
  const known = found.filter((each) => each);
  const layers = [...new Set(known.flatMap((each) => each.maps.layers))].sort((one, other) => one - other);
  const near = view.layer ?? layers[Math.floor(layers.length * 0.6)];
  if (!layers.includes(view.layer)) view.layer = layers.length ? layers.reduce((best, layer) => Math.abs(layer - near) < Math.abs(best - near) ? layer : best, layers[0]) : null;
  const heads = Math.max(0, ...known.map((each) => each.heads ? each.heads.heads : 0));
  view.head = Math.min(view.head, heads);
  Object.assign(view, { layers, heads });
  const word = wanted.word ?? tellingWord(known);
  const lines = [sample.truth !== null && sample.truth !== undefined ? `truth: ${sample.truth}` : "", data.runs.length > 1 ? `from ${run.name}` : "", `sample ${sample.id}`];
  const copy = el("button", { type: "button", class: "quiet", id: "link", click: async () => { changed(); try { await navigator.clipboard.writeText(location.href); say("The address of this view is copied"); copy.textContent = "Copied"; } catch { copy.textContent = "The address above is this view's"; } } }, "Copy link to this view");
  const whole = { ...sample, images };
  host.replaceChildren(
    el("div", { class: "question" }, el("div", {}, el("h3", {}, bdi(sample.prompt || (known.length ? "" : sample.text) || readable(sample.text || "") || sample.id)), el("p", {}, bdi(lines.filter(Boolean).join(" · ")))), copy),
    known.length ? controls(known) : el("p", { class: "note", style: "padding:0 1.25rem .8rem" }, noMaps(sample, run)),
    !known.length ? el("div", { class: "panes" }, answersOf(whole)) : el("div", { class: "panes" }, sample.variants.map((variant, at) => pane(whole, variant, found[at], sample.variants.length === 1, word))),
    known.length ? help() : "");
  view.panes = [...host.querySelectorAll(".pane")].map((node) => node.state).filter(Boolean);
  if (wanted.patch !== undefined) view.panes.forEach((state) => { state.fixed = state.patch = shownPatches(state).find((patch) => patch.column === wanted.patch) || null; });
  view.panes.forEach(paint);
  const narrowest = known.flatMap((each) => each.maps.notes);
  if (narrowest.length) host.querySelector(".keys").prepend(el("p", { class: "note", style: "margin-top:0" }, `Shown so that the page stays small: ${[...new Set(narrowest)].join("; ")}.`));
}

/* Addresses: what stands after # brings a view back ------------------------------------------------------------------ */

const keyOf = (sample) => `${sample.run}/${sample.id}`;
function remember() {
  const sample = data.samples[view.sample], state = view.panes[0];
  if (!sample) return;
  const parts = new URLSearchParams({ sample: keyOf(sample) });
  if (state) {
    parts.set("word", state.word);
    parts.set("layer", view.layer);
    if (view.head) parts.set("head", view.head - 1);
    if (view.style !== "heat") parts.set("map", view.style);
    if (view.words !== "attention") parts.set("by", view.words);
    if (!view.sinks) parts.set("sinks", "off");
    if (state.fixed) parts.set("patch", state.fixed.column);
  }
  view.address = `#${parts}`;
  try { history.replaceState(null, "", view.address); } catch { location.hash = view.address; }
}
/** Scrolls to a part, and again while charts above it take their room, until a person scrolls. */
function stay(node) {
  const go = () => node.scrollIntoView({ behavior: "instant" }), timers = [0, 200, 600, 1200].map((wait) => setTimeout(go, wait));
  for (const name of ["wheel", "touchstart", "keydown", "pointerdown"]) addEventListener(name, () => timers.forEach(clearTimeout), { once: true, passive: true });
}
/** Shows what the address asks for; false where it asks for no sample of this page. */
function restore() {
  if (!location.hash.startsWith("#sample=") || location.hash === view.address) return false;
  view.address = location.hash;
  const parts = new URLSearchParams(location.hash.slice(1)), place = data.samples.findIndex((sample) => keyOf(sample) === parts.get("sample"));
  if (place < 0) { say("This page has no such sample"); return false; }
  const whole = (name) => /^\d+$/.test(parts.get(name) ?? "") ? +parts.get(name) : undefined;
  if (whole("layer") !== undefined) view.layer = whole("layer");
  view.head = whole("head") === undefined ? 0 : whole("head") + 1;
  view.style = STYLES.includes(parts.get("map")) ? parts.get("map") : "heat";
  view.words = parts.get("by") === "grounding" ? "grounding" : "attention";
  view.sinks = parts.get("sinks") !== "off";
  show(place, false, { word: whole("word"), patch: whole("patch") });
  stay($("samples"));
  return true;
}
