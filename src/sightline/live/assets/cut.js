"use strict";
/* Cutting: patches by brush or box, words by click, heads from a list; what the answer loses appears while one looks. */

const cutting = { isOn: false, way: "brush", columns: new Set(), heads: new Set(), timer: 0, map: null };

const place = (canvas, event) => { const box = canvas.getBoundingClientRect(); return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height]; };
const under = (state, image, [x, y]) => state.found.patches.filter((each) => each.image === image && x >= each.box[0] && x < each.box[2] && y >= each.box[1] && y < each.box[3]);
const touched = (state, image, [x0, y0], [x1, y1]) => state.found.patches.filter((each) => each.image === image && each.box[0] < Math.max(x0, x1) && each.box[2] > Math.min(x0, x1) && each.box[1] < Math.max(y0, y1) && each.box[3] > Math.min(y0, y1));

/** The pointer on a map while cutting: a brush paints patch by patch, a box takes all that it touches. */
function brush(state, canvas, image) {
  let stroke = null;
  const box = el("span", { class: "box", hidden: true });
  canvas.parentElement.append(box);
  canvas.addEventListener("pointerdown", (event) => {
    if (!cutting.isOn) return;
    const from = place(canvas, event), [first] = under(state, image, from);
    stroke = { from, last: from, isOn: !(first && cutting.columns.has(first.column)) };
    canvas.setPointerCapture(event.pointerId);
    if (cutting.way === "brush") toggle(under(state, image, from).map(({ column }) => column), stroke.isOn);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!stroke) return;
    const at = place(canvas, event);
    if (cutting.way === "brush") {
      // A quick stroke skips patches between two events.
      const steps = Math.max(1, Math.ceil(60 * Math.hypot(at[0] - stroke.last[0], at[1] - stroke.last[1])));
      for (let step = 1; step <= steps; step += 1) toggle(under(state, image, [0, 1].map((axis) => stroke.last[axis] + (at[axis] - stroke.last[axis]) * step / steps)).map(({ column }) => column), stroke.isOn);
    } else {
      const [left, top] = [0, 1].map((axis) => Math.min(stroke.from[axis], at[axis])), [width, height] = [0, 1].map((axis) => Math.abs(stroke.from[axis] - at[axis]));
      box.hidden = false;
      box.style.cssText = `left:${100 * left}%;top:${100 * top}%;width:${100 * width}%;height:${100 * height}%`;
    }
    stroke.last = at;
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => {
    if (stroke && cutting.way === "box" && name === "pointerup") toggle(touched(state, image, stroke.from, stroke.last).map(({ column }) => column), stroke.isOn);
    stroke = null;
    box.hidden = true;
  });
  canvas.addEventListener("keydown", (event) => { if (cutting.isOn && (event.key === "Enter" || event.key === " ") && state.fixed) { event.preventDefault(); event.stopPropagation(); toggle([state.fixed.column]); } });
}
function toggle(columns, isOn = null) {
  let isNew = false;
  for (const column of columns) {
    const wanted = isOn ?? !cutting.columns.has(column);
    if (wanted === cutting.columns.has(column)) continue;
    if (wanted) cutting.columns.add(column); else cutting.columns.delete(column);
    isNew = true;
  }
  if (isNew) showCuts();
}
function showCuts() {
  for (const state of view.panes) {
    state.promptWords.forEach((node, at) => { node.classList.toggle("cut", cutting.columns.has(at)); if (cutting.isOn) node.setAttribute("aria-pressed", String(cutting.columns.has(at))); });
    state.frames.forEach(({ canvas, light }, image) => [canvas, light].forEach((each) => {
      if (!each) return;
      each.parentElement.querySelectorAll(".mask").forEach((mask) => mask.remove());
      for (const patch of state.found.patches) if (patch.image === image && cutting.columns.has(patch.column)) {
        const [left, top, right, bottom] = patch.box.map((edge) => `${100 * edge}%`);
        each.parentElement.append(el("span", { class: "mask", style: `left:${left};top:${top};width:calc(${right} - ${left});height:calc(${bottom} - ${top})` }));
      }
    }));
  }
  showChips();
  changed();
  clearTimeout(cutting.timer);
  cutting.timer = setTimeout(effect, 120);
}

/* Heads: a layer, and its heads to choose from; those chosen stand beside --------------------------------------------- */

function showHeads() {
  const decoder = live.answers.at(-1)?.decoder;
  if (!decoder) return;
  const kept = +$("headlayer").value || 0;
  $("headlayer").replaceChildren(...Array.from({ length: decoder.layers }, (_, layer) => el("option", { value: layer, selected: layer === kept }, String(layer))));
  const layer = +$("headlayer").value;
  $("headlist").replaceChildren(...Array.from({ length: decoder.heads }, (_, head) => {
    const name = `${layer}.${head}`;
    return el("button", { type: "button", class: "quiet head", "aria-pressed": String(cutting.heads.has(name)), "aria-label": `Head ${head} of layer ${layer}`, click: () => { if (!cutting.heads.delete(name)) cutting.heads.add(name); showHeads(); showCuts(); } }, String(head));
  }));
  showChips();
}
function showChips() {
  $("heads").replaceChildren(...[...cutting.heads].map((name) => el("button", { type: "button", class: "quiet head", "aria-pressed": "true", "aria-label": `Head ${name} is silenced: take it back`, click: () => { cutting.heads.delete(name); showHeads(); showCuts(); } }, `${name} ✕`)));
}
$("headlayer").addEventListener("change", showHeads);

/* What the answer loses -------------------------------------------------------------------------------------------- */

async function cutOf(answer, columns, heads, signal) {
  const positions = [...columns].flatMap((column) => answer.columns[column] || []);
  const response = await fetch(`answers/${answer.name}/cut`, { method: "POST", body: JSON.stringify({ positions, heads }), signal });
  const found = await response.json();
  if (!response.ok) throw new Error(found.error);
  return found;
}
async function effect() {
  const answer = live.answers.at(-1), state = view.panes.at(-1), heads = [...cutting.heads].map((name) => name.split(".").map(Number)), columns = [...cutting.columns];
  if (!answer || !state) return;
  if (!columns.length && !heads.length) {
    $("effect").textContent = cutting.isOn ? "Paint over patches, click words of the prompt, or choose heads: what the answer loses appears here." : "";
    state.answerWords.forEach((button) => { button.classList.remove("lost"); });
    return;
  }
  const mark = cutting.mark = {};
  try {
    const found = await cutOf(answer, columns, heads);
    if (cutting.mark !== mark) return; // a later cut is on its way
    const worst = found.changes.reduce((best, change, at) => change < found.changes[best] ? at : best, 0);
    const count = columns.filter((column) => column >= state.found.texts).length, words = columns.length - count;
    const hidden = [count ? `${count} patch${count === 1 ? "" : "es"}` : "", words ? plural(words, "word") : "", heads.length ? plural(heads.length, "head") : ""].filter(Boolean).join(", ");
    $("effect").replaceChildren(`Without ${hidden} this answer is `, el("b", {}, `${Math.abs(found.total).toFixed(2)} nats`), found.total < 0 ? " less likely" : " more likely", ", most at “", bdi(state.found.maps.words[worst]?.[0] ?? ""), `” (${signed(found.changes[worst], 2)}).`);
    state.answerWords.forEach((button, at) => { button.title = `${signed(found.changes[at] ?? 0, 2)} nats with what is cut`; button.classList.toggle("lost", (found.changes[at] ?? 0) < -0.5); });
  } catch (error) { $("effect").textContent = error.message; }
}
function clearCuts() {
  cutting.columns.clear();
  cutting.heads.clear();
  showHeads();
  showCuts();
}

/* The map of cuts: each place of the picture hidden in turn, in the background while one cuts ------------------------- */

const CELLS = 8;
function blocksOf(state) {
  const blocks = new Map();
  for (const { column, image, box: [left, top, right, bottom] } of state.found.patches) {
    const key = [image, Math.floor(CELLS * (left + right) / 2), Math.floor(CELLS * (top + bottom) / 2)].join();
    blocks.set(key, [...(blocks.get(key) || []), column]);
  }
  return [...blocks.values()];
}
function stopCuts() { cutting.map?.abort(); cutting.map = null; $("mapped").textContent = ""; }
async function mapCuts() {
  const answer = live.answers.at(-1), state = view.panes.at(-1);
  stopCuts();
  if (!answer || !state || !state.found.patches.length || state.isMapped) return;
  const control = cutting.map = new AbortController(), blocks = blocksOf(state);
  state.effects = new Float32Array(state.found.mean.width);
  try {
    for (const [done, columns] of blocks.entries()) {
      const { total } = await cutOf(answer, columns, [], control.signal);
      for (const column of columns) state.effects[column] = total;
      paint(state);
      $("mapped").textContent = `Beside: what hiding each place costs the answer (${done + 1} of ${blocks.length}).`;
    }
    state.isMapped = true;
    $("mapped").textContent = "Beside the heat: what hiding each place alone does to the answer. Orange: less likely without it; violet: more likely.";
  } catch (error) { if (error.name !== "AbortError") $("mapped").textContent = error.message; }
}

$("cut").addEventListener("click", () => {
  cutting.isOn = !cutting.isOn;
  $("cut").setAttribute("aria-pressed", String(cutting.isOn));
  $("cutters").hidden = !cutting.isOn;
  $("viewer").classList.toggle("cutting", cutting.isOn);
  for (const state of view.panes) state.promptWords.forEach((node) => { node.tabIndex = cutting.isOn ? 0 : -1; });
  for (const state of view.panes) { state.showsEffects = cutting.isOn; paint(state); }
  if (cutting.isOn) mapCuts(); else stopCuts();
  effect();
});
for (const name of ["brush", "box"]) $(name).addEventListener("click", () => {
  cutting.way = name;
  for (const other of ["brush", "box"]) $(other).setAttribute("aria-pressed", String(other === name));
});
$("clear").addEventListener("click", clearCuts);
