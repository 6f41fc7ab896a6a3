"use strict";
/* Painting -------------------------------------------------------------------------------------------------------- */

const isByHead = (state) => view.head > 0 && state.found.heads && view.head <= state.found.heads.heads;
const shownPatches = (state) => isByHead(state) ? state.found.headPatches : state.found.patches;
const layerPlace = (state) => {
  const layers = state.found.maps.layers;
  const exact = layers.indexOf(view.layer);
  return exact >= 0 ? exact : layers.reduce((best, layer, place) => Math.abs(layer - view.layer) < Math.abs(layers[best] - view.layer) ? place : best, 0);
};
function valuesOf(state, word, layer) {
  const { mean, heads } = state.found;
  return isByHead(state) ? heads.at(Math.min(word, heads.words - 1), layer, view.head - 1) : mean.at(Math.min(word, mean.words - 1), layer);
}
function hiddenColumns(state, layer) {
  const sinks = state.found.maps.sinks;
  return new Set(!view.sinks && sinks ? sinks[layer] : []);
}
/** The patches of the shown map that are hidden as sinks: those of maps by head are found by their place. */
function hiddenPatches(state, layer) {
  const columns = hiddenColumns(state, layer);
  if (!columns.size) return new Set();
  const gone = state.found.patches.filter((patch) => columns.has(patch.column));
  if (!isByHead(state)) return new Set(gone.map((patch) => patch.label + patch.image));
  return new Set(state.found.headPatches.filter((patch) => gone.some((other) => { const [x, y] = centre(other), [left, top, right, bottom] = patch.box; return other.image === patch.image && x >= left && x < right && y >= top && y < bottom; })).map((patch) => patch.label + patch.image));
}
const SIGNS = {
  hidden: "Orange: hiding it makes the answer less likely; violet or blue: more likely.",
  "taken away": "Orange: without it the answer is less likely; violet or blue: more likely.",
  restored: "Violet or blue: restoring it brings the answer back; orange: it leads further away.",
};
const heat = (value, isSigned) => d3.rgb(isSigned ? d3.interpolatePuOr(0.5 - value / 2) : d3.interpolateInferno(0.12 + 0.82 * value));

/** Colour and opacity of a part of the largest value. */
function coatOf(part, isSigned, style) {
  const size = Math.abs(part);
  if (style === "spotlight") return [d3.rgb(8, 9, 14), 0.86 * (1 - size ** 0.6)];
  return [heat(isSigned ? part : Math.max(0, part), isSigned), style === "patches" ? 0.92 : 0.06 + 0.74 * size ** (isSigned ? 0.8 : 2)];
}
/** The mean colour of the first picture; grey where there is none. */
function groundOf(state) {
  const img = state.frames[0]?.img;
  if (!state.ground && img && img.complete && img.naturalWidth) {
    const pen = new OffscreenCanvas(1, 1).getContext("2d");
    pen.drawImage(img, 0, 0, 1, 1);
    const [red, green, blue] = pen.getImageData(0, 0, 1, 1).data;
    state.ground = `rgb(${red}, ${green}, ${blue})`;
  }
  return state.ground || "rgb(128, 128, 128)";
}

function paint(state) {
  const { found, frames } = state, layer = layerPlace(state), word = state.hover ?? state.word;
  const values = valuesOf(state, word, layer), patches = shownPatches(state), gone = hiddenPatches(state, layer), isSigned = found.maps.signed;
  const isGone = (patch) => gone.has(patch.label + patch.image);
  let most = 0;
  for (const patch of patches) if (!isGone(patch)) most = Math.max(most, Math.abs(values[patch.column]));
  frames.forEach(({ canvas, light }, image) => {
    const own = patches.filter((patch) => patch.image === image);
    if (canvas) drawMap(canvas, own, values, most, isGone, isSigned, state.patch);
    const hasEffects = state.showsEffects && state.effects;
    if (light) light.closest(".frame").hidden = view.style === "spotlight" && !hasEffects;
    if (light && hasEffects) drawMap(light, found.patches.filter((patch) => patch.image === image), state.effects.map((value) => -value), Math.max(1e-9, ...state.effects.map(Math.abs)), () => false, true, state.patch, "patches");
    else if (light && view.style !== "spotlight") drawMap(light, own, values, most, isGone, isSigned, state.patch, "spotlight");
  });
  if (state.bar) {
    const context = state.bar.getContext("2d"), ground = groundOf(state);
    for (let x = 0; x < 256; x += 1) { // the ramp as it is painted: over the picture's mean colour
      const [colour, alpha] = coatOf(isSigned ? x / 127.5 - 1 : x / 255, isSigned, view.style);
      context.fillStyle = ground;
      context.fillRect(x, 0, 1, 1);
      context.fillStyle = colour.copy({ opacity: alpha }).formatRgb();
      context.fillRect(x, 0, 1, 1);
    }
    const told = isSigned || found.maps.kind === "impact" ? most.toPrecision(2) : share(most);
    state.high.textContent = isSigned ? `+${told}` : told;
    state.low.textContent = isSigned ? `−${told}` : "0";
  }
  for (const mini of state.minis) {
    const place = found.maps.layers.indexOf(mini.layer), own = valuesOf(state, word, place), goneHere = hiddenPatches(state, place), kept = patches.filter((patch) => !goneHere.has(patch.label + patch.image) && patch.image === 0);
    const top = Math.max(1e-12, ...kept.map((patch) => Math.abs(own[patch.column])));
    const context = mini.canvas.getContext("2d");
    context.fillStyle = heat(0, isSigned).formatRgb();
    context.fillRect(0, 0, 40, 40);
    for (const { column, box: [left, up, right, down] } of kept) { context.fillStyle = heat(own[column] / top, isSigned).formatRgb(); context.fillRect(Math.floor(left * 40), Math.floor(up * 40), Math.ceil((right - left) * 40), Math.ceil((down - up) * 40)); }
    mini.button.setAttribute("aria-pressed", String(mini.layer === found.maps.layers[layer]));
  }
  paintWords(state, values, word, layer, patches);
}

function drawMap(canvas, patches, values, most, isGone, isSigned, cursor, style = view.style) {
  const box = canvas.getBoundingClientRect(), ratio = Math.min(2, devicePixelRatio || 1);
  const width = Math.max(1, Math.round(box.width * ratio)), height = Math.max(1, Math.round(box.height * ratio));
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, width, height);
  const edges = ([left, top, right, bottom]) => [Math.round(left * width), Math.round(top * height), Math.round(right * width) - Math.round(left * width), Math.round(bottom * height) - Math.round(top * height)];
  const level = (patch) => most > 0 ? values[patch.column] / most : 0;
  const coat = (patch) => coatOf(level(patch), isSigned, style);
  if (style === "patches") {
    for (const patch of patches) {
      if (isGone(patch)) continue;
      const [colour, alpha] = coat(patch), [x, y, w, h] = edges(patch.box);
      context.fillStyle = colour.copy({ opacity: alpha }).formatRgb();
      context.fillRect(x, y, w, h);
    }
  } else smooth(context, patches.filter((patch) => !isGone(patch)), coat, width, height);
  for (const patch of patches) if (isGone(patch)) hatch(context, edges(patch.box), ratio);
  if (cursor && patches.some((patch) => patch.label === cursor.label && patch.image === cursor.image)) {
    const [x, y, w, h] = edges(cursor.box);
    context.lineWidth = 4 * ratio; context.strokeStyle = "rgb(0 0 0 / .75)"; context.strokeRect(x + 1, y + 1, w - 2, h - 2);
    context.lineWidth = 2 * ratio; context.strokeStyle = "#fff"; context.strokeRect(x + 1, y + 1, w - 2, h - 2);
  }
}

/** Each patch is a pixel of a small picture that is drawn large and smooth; patches of several sizes lie over each other. */
function smooth(context, patches, coat, width, height) {
  const kinds = new Map();
  for (const patch of patches) {
    const [left, top, right, bottom] = patch.box, key = `${(right - left).toFixed(4)} ${(bottom - top).toFixed(4)}`;
    if (!kinds.has(key)) kinds.set(key, { w: right - left, h: bottom - top, all: [] });
    kinds.get(key).all.push(patch);
  }
  for (const { w, h, all } of kinds.values()) {
    const left = Math.min(...all.map((patch) => patch.box[0])), top = Math.min(...all.map((patch) => patch.box[1]));
    const cols = Math.max(1, Math.round((Math.max(...all.map((patch) => patch.box[2])) - left) / w)), rows = Math.max(1, Math.round((Math.max(...all.map((patch) => patch.box[3])) - top) / h));
    if (rows * cols > 65536) continue;
    const small = new OffscreenCanvas(cols + 2, rows + 2), pen = small.getContext("2d"), pixels = pen.createImageData(cols + 2, rows + 2);
    for (const patch of all) {
      const col = Math.round((patch.box[0] - left) / w) + 1, row = Math.round((patch.box[1] - top) / h) + 1, [colour, alpha] = coat(patch);
      // The border repeats the edge, so that it does not fade.
      for (const y of [row, row === 1 ? 0 : row, row === rows ? rows + 1 : row]) for (const x of [col, col === 1 ? 0 : col, col === cols ? cols + 1 : col]) {
        const at = 4 * (y * (cols + 2) + x);
        pixels.data[at] = colour.r; pixels.data[at + 1] = colour.g; pixels.data[at + 2] = colour.b; pixels.data[at + 3] = 255 * alpha;
      }
    }
    pen.putImageData(pixels, 0, 0);
    context.save();
    context.beginPath();
    context.rect(left * width, top * height, cols * w * width, rows * h * height);
    context.clip();
    context.imageSmoothingEnabled = true;
    context.imageSmoothingQuality = "high";
    context.drawImage(small, (left - w) * width, (top - h) * height, (cols + 2) * w * width, (rows + 2) * h * height);
    context.restore();
  }
}
function hatch(context, [x, y, w, h], ratio) {
  context.save();
  context.beginPath();
  context.rect(x, y, w, h);
  context.clip();
  context.strokeStyle = "rgb(255 255 255 / .55)";
  context.lineWidth = ratio;
  for (let at = -h; at < w; at += 7 * ratio) { context.beginPath(); context.moveTo(x + at, y + h); context.lineTo(x + at + h, y); context.stroke(); }
  context.restore();
}

const tint = (name, value) => `rgb(var(--${name}), calc(var(--${name === "against" ? "cool" : name}-most) * ${value.toFixed(3)}))`;

function paintWords(state, values, word, layer, patches) {
  const { found } = state, gone = hiddenColumns(state, layer), isImpact = found.maps.kind === "impact", isSigned = found.maps.signed;
  const row = found.mean.at(Math.min(word, found.mean.words - 1), layer); // maps by head have no words
  let most = 0;
  for (let place = 0; place < found.texts; place += 1) if (!gone.has(place)) most = Math.max(most, Math.abs(row[place]));
  state.promptWords.forEach((node, place) => {
    const value = row[place], level = most > 0 ? Math.abs(value) / most : 0;
    node.classList.toggle("off", gone.has(place));
    node.style.background = gone.has(place) ? "none" : tint(isSigned && value > 0 ? "against" : "heat", level ** 0.7);
    node.title = isImpact ? value.toPrecision(2) : share(value);
  });
  const counted = found.patches.filter((patch) => !gone.has(patch.column));
  const shares = state.answerWords.map((_, place) => {
    const own = state.patch && !isImpact ? valuesOf(state, place, layer) : isImpact ? null : found.mean.at(place, layer);
    if (!own) return 0;
    return state.patch ? own[state.patch.column] : counted.reduce((sum, patch) => sum + own[patch.column], 0);
  });
  const top = state.patch ? Math.max(1e-9, ...shares) : 1;
  const byScore = view.words === "grounding" && !state.patch && isGrounded(found.maps), scores = found.maps.grounding || [];
  state.heading.textContent = isImpact ? "Answer" : state.patch ? "Answer, coloured by how much of each word's attention is on this patch" : byScore ? "Answer, coloured by grounding: how near each word is to the closest patch" : "Answer, coloured by how much of each word's attention is on the image";
  const [least, best] = d3.extent(scores.filter(isNumber));
  state.answerWords.forEach((button, place) => {
    const score = scores[place], level = byScore ? (isNumber(score) ? 0.1 + 0.9 * (best > least ? (score - least) / (best - least) : 1) : 0) : Math.min(1, shares[place] / top) ** 0.8;
    button.style.background = isImpact ? "none" : tint(state.patch ? "heat" : byScore ? "good" : "cool", level);
    button.classList.toggle("lit", Boolean(state.patch) && shares[place] === top);
    button.title = isImpact ? "" : byScore ? (isNumber(score) ? `grounding ${score.toFixed(2)}` : "not scored: the model never reads its last word") : `${share(shares[place])} on ${state.patch ? "this patch" : "the image"}`;
  });
  const text = visible(found.maps.words[word]?.[0] ?? "answer"), where = `layer ${found.maps.layers[layer]}${isByHead(state) ? `, head ${view.head - 1}` : ""}`;
  const bold = (value) => el("b", {}, value), name = el("b", {}, "“", bdi(text), "”");
  if (state.patch) {
    const value = values[state.patch.column];
    state.sum.replaceChildren(`Patch ${state.patch.label}: `, isImpact ? bold(value.toPrecision(2)) : bold(share(value)), isImpact ? " for " : " of the attention of ", name, `, ${where}.`);
    return;
  }
  if (isImpact) { state.sum.replaceChildren("Predicted: ", name, `, ${where}. ${isSigned ? SIGNS[found.maps.acts] || SIGNS.hidden : ""}`); return; }
  const strongest = patches.length ? patches.reduce((best, patch) => values[patch.column] > values[best.column] ? patch : best, patches[0]) : null;
  const onText = Array.from({ length: found.texts }, (_, place) => gone.has(place) ? 0 : row[place]).reduce((sum, value) => sum + value, 0);
  state.sum.replaceChildren(name, `, ${where}: `, ...(found.patches.length ? [bold(share(shares[word])), " of its attention on the image, "] : []), bold(share(onText)), " of it on the prompt", gone.size ? " (sinks left out)" : "", strongest ? `; the strongest patch is ${strongest.label}.` : "; how the image's tokens lie in it is not known.", isNumber(scores[word]) ? ` Grounding ${scores[word].toFixed(2)}.` : "");
}
