"use strict";
/* The live page: ask, look at each word, cut, compare. The painting is the report's. */

const live = { turns: [], methods: [], pictures: [], answers: [], request: null, isCutting: false, cuts: { columns: new Set(), heads: [] }, timer: 0 };

/* Pictures -------------------------------------------------------------------------------------------------------- */

const readFile = (file) => new Promise((resolve, reject) => {
  const reader = new FileReader();
  reader.onload = () => resolve(reader.result);
  reader.onerror = () => reject(new Error(`${file.name} cannot be read`));
  reader.readAsDataURL(file);
});
async function addPictures(files) {
  for (const file of files) {
    if (!file.type.startsWith("image/")) { status(`${file.name} is no picture.`); continue; }
    live.pictures.push({ name: file.name, data: await readFile(file) });
  }
  showPictures();
}
function showPictures() {
  $("thumbs").replaceChildren(...live.pictures.map((picture, place) => el("button", { type: "button", title: `Take ${visible(picture.name)} out`, "aria-label": `Take picture ${place + 1}, ${visible(picture.name)}, out`, click: () => { live.pictures.splice(place, 1); showPictures(); } }, el("img", { src: picture.data, alt: "" }))));
}
$("images").addEventListener("change", async (event) => { const files = [...event.target.files]; live.pictures = []; await addPictures(files); });
for (const name of ["dragover", "dragleave", "drop"]) $("drop").addEventListener(name, (event) => {
  event.preventDefault();
  $("drop").classList.toggle("over", name === "dragover");
  if (name === "drop") addPictures([...event.dataTransfer.files]);
});
document.addEventListener("paste", (event) => { const files = [...event.clipboardData.files]; if (files.length) addPictures(files); });

/* Methods --------------------------------------------------------------------------------------------------------- */

const chosen = () => live.methods.find(({ name }) => name === $("method").value);
async function showMethods() {
  $("method").append(el("option", { value: "none" }, "none"));
  for (;;) { // the page is here before the model
    const response = await fetch("methods");
    if (response.ok) { live.methods = await response.json(); break; }
    status((await response.json()).error);
    await new Promise((resolve) => setTimeout(resolve, 400));
  }
  status("");
  $("method").append(...live.methods.map(({ name, about: text }) => el("option", { value: name, title: text }, name)));
  $("method").addEventListener("change", showFields);
}
function showFields() {
  const method = chosen();
  $("fields").replaceChildren(...(method ? method.fields.map(({ name, default: value, help }) => {
    const isShare = isNumber(value) && value >= 0 && value <= 1 && !Number.isInteger(value);
    const shown = Array.isArray(value) ? value.join("+") : value ?? "";
    const output = el("output", {}, String(shown));
    const input = el("input", isShare ? { type: "range", min: 0, max: 1, step: 0.05, value: shown } : { size: 6, value: shown });
    Object.assign(input.dataset, { field: name, default: shown });
    input.addEventListener("input", () => { output.textContent = input.value; });
    return el("label", { title: help }, name, input, isShare ? output : null);
  }) : []));
}
function spec() {
  const method = chosen();
  if (!method) return "none";
  const given = [...$("fields").querySelectorAll("input")].filter((input) => input.value !== input.dataset.default && input.value !== "").map((input) => `${input.dataset.field}=${input.value}`);
  return method.name + (given.length ? `:${given.join(",")}` : "");
}

/* Asking ---------------------------------------------------------------------------------------------------------- */

const status = (text) => { $("status").textContent = text; };
async function ask(isBeside) {
  if (live.request) return;
  const controller = live.request = new AbortController();
  $("stop").hidden = false;
  document.querySelectorAll(".go, #compare").forEach((button) => { button.disabled = true; });
  $("answer").textContent = "";
  $("answer").classList.remove("bad");
  status("Waiting for the model …");
  try {
    const body = { prompt: $("prompt").value, images: live.pictures.map(({ data: picture }) => picture), turns: live.turns, method: spec(), view: $("view").value, new_tokens: +$("tokens").value };
    const response = await fetch("ask", { method: "POST", body: JSON.stringify(body), signal: controller.signal });
    if (!response.ok) throw new Error((await response.json()).error);
    for await (const event of lines(response.body)) {
      if (event.place) status(`${plural(event.place, "question")} before yours …`);
      if (event.place === 0) status("The model reads …");
      if (event.text) $("answer").append(visible(event.text));
      if (event.error) throw new Error(event.error);
      if (event.answer) await take(event.answer, body.prompt, isBeside);
    }
  } catch (error) {
    if (error.name === "AbortError") status("Stopped.");
    else { $("answer").textContent = error.message; $("answer").classList.add("bad"); status(""); }
  } finally {
    live.request = null;
    $("stop").hidden = true;
    document.querySelector(".go").disabled = false;
    $("compare").disabled = $("further").disabled = !live.answers.length;
  }
}
async function* lines(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    rest += value ?? "";
    const parts = rest.split("\n");
    rest = parts.pop();
    for (const part of parts) yield JSON.parse(part);
    if (done) return;
  }
}
async function take(answer, prompt, isBeside) {
  live.answers = isBeside ? [...live.answers.slice(-1), answer] : [answer];
  answer.prompt = prompt;
  status(`${answer.seconds.toFixed(2)} s`);
  $("answer").textContent = visible(answer.text) || "(empty)";
  history.replaceState(null, "", `#${live.answers.map(({ name }) => name).join("+")}`);
  clearCuts();
  await showAnswers();
}

/* Looking --------------------------------------------------------------------------------------------------------- */

async function showAnswers() {
  const found = await Promise.all(live.answers.map(({ maps }) => decode(maps)));
  view.layers = [...new Set(found.flatMap(({ maps }) => maps.layers))].sort((one, other) => one - other);
  if (!view.layers.includes(view.layer)) view.layer = view.layers[Math.floor(view.layers.length * 0.6)];
  view.heads = Math.max(0, ...found.map((each) => each.heads ? each.heads.heads : 0));
  view.head = Math.min(view.head, view.heads);
  const isAlone = live.answers.length === 1;
  $("viewer").hidden = $("tools").hidden = false;
  $("viewer").replaceChildren(
    el("div", { class: "question" }, el("h3", {}, bdi(live.answers.at(-1).prompt))),
    controls(found),
    el("div", { class: "panes" }, live.answers.map((answer, place) => {
      const name = [answer.method, answer.view === "as it is" ? "" : answer.view === "blank" ? "blank picture" : "without picture"].filter((part) => part && part !== "none").join(", ");
      const node = pane({ id: answer.name, images: answer.images }, { name: name || "plain", answer: answer.text, maps: answer.maps }, found[place], isAlone);
      node.answer = answer;
      node.querySelector(".sum").after(el("p", { class: "runners" }));
      return node;
    })), help());
  view.panes = [...$("viewer").querySelectorAll(".pane")].map((node) => node.state).filter(Boolean);
  view.panes.forEach((state) => { paint(state); follow(state); runners(state); });
  if (!isAlone) markChanges();
}
/** The probability of the chosen word, and what else the model might have written. */
function runners(state) {
  const { answer } = state.node, word = answer.words[state.word], host = state.node.querySelector(".runners");
  host.replaceChildren(...(word ? [`Probability ${share(word.probability)}; runners-up: `, word.runners.flatMap(([text, probability], place) => [place ? ", " : "", el("b", {}, "“", bdi(text), "”"), ` ${share(probability)}`])] : []).flat());
}
function follow(state) {
  state.answerWords.forEach((button) => { button.addEventListener("click", () => runners(state)); button.addEventListener("focus", () => runners(state)); });
  state.promptWords.forEach((node, place) => node.addEventListener("click", () => { if (live.isCutting) toggle(place); }));
  state.frames.forEach(({ canvas }, image) => {
    if (!canvas) return;
    let way = null;
    const brush = (event) => {
      if (!live.isCutting || !way) return;
      const box = canvas.getBoundingClientRect(), x = (event.clientX - box.left) / box.width, y = (event.clientY - box.top) / box.height;
      const patch = state.found.patches.find((each) => each.image === image && x >= each.box[0] && x < each.box[2] && y >= each.box[1] && y < each.box[3]);
      if (patch) toggle(patch.column, way);
    };
    canvas.addEventListener("pointerdown", (event) => {
      if (!live.isCutting) return;
      const box = canvas.getBoundingClientRect(), x = (event.clientX - box.left) / box.width, y = (event.clientY - box.top) / box.height;
      const patch = state.found.patches.find((each) => each.image === image && x >= each.box[0] && x < each.box[2] && y >= each.box[1] && y < each.box[3]);
      way = patch && live.cuts.columns.has(patch.column) ? "off" : "on";
      canvas.setPointerCapture(event.pointerId);
      brush(event);
    });
    canvas.addEventListener("click", () => { if (!live.isCutting) lens(state); });
    canvas.addEventListener("pointermove", brush);
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { way = null; });
    canvas.addEventListener("keydown", (event) => { if (live.isCutting && (event.key === "Enter" || event.key === " ") && state.fixed) { event.preventDefault(); event.stopPropagation(); toggle(state.fixed.column); } });
  });
}
function markChanges() {
  const [one, other] = view.panes;
  other.answerWords.forEach((button, place) => button.classList.toggle("changed", other.found.maps.words[place]?.[0] !== one.found.maps.words[place]?.[0]));
}

/** What each layer makes of a patch: the words that its state is nearest to. */
async function lens(state) {
  const answer = state.node.answer, position = state.fixed && (answer.columns[state.fixed.column] || [])[0];
  if (position === undefined || position === null) { $("lens").textContent = ""; return; }
  const response = await fetch(`answers/${answer.name}/lens/${position}`), found = await response.json();
  $("lens").replaceChildren(...(response.ok ? [`Logit lens of ${state.fixed.label}: `, found.layers.flatMap(({ layer, tokens }) => [layer ? " · " : "", `${layer} `, el("b", {}, bdi(tokens[0][0])), ` ${share(tokens[0][1])}`])] : [found.error]).flat());
}

/* Turns ------------------------------------------------------------------------------------------------------------- */

function showTurns() {
  $("turns").replaceChildren(...live.turns.map(([question, answer], place) => el("li", {}, bdi(question), " — ", bdi(answer), " ", el("button", { type: "button", "aria-label": `Go back to before turn ${place + 1}`, click: () => { live.turns.splice(place); showTurns(); } }, "✕"))));
}
$("further").addEventListener("click", () => {
  const { prompt, text } = live.answers.at(-1);
  live.turns.push([prompt, text]);
  showTurns();
  $("prompt").value = "";
  $("prompt").focus();
});

/* Cutting --------------------------------------------------------------------------------------------------------- */

function toggle(column, way = null) {
  const { columns } = live.cuts, isOn = way ? way === "on" : !columns.has(column);
  if (isOn === columns.has(column)) return;
  if (isOn) columns.add(column); else columns.delete(column);
  showCuts();
}
function showCuts() {
  for (const state of view.panes) {
    state.promptWords.forEach((node, place) => node.classList.toggle("cut", live.cuts.columns.has(place)));
    state.frames.forEach(({ canvas }, image) => {
      if (!canvas) return;
      canvas.parentElement.querySelectorAll(".mask").forEach((mask) => mask.remove());
      for (const patch of state.found.patches) if (patch.image === image && live.cuts.columns.has(patch.column)) {
        const [left, top, right, bottom] = patch.box.map((edge) => `${100 * edge}%`);
        canvas.parentElement.append(el("span", { class: "mask", style: `left:${left};top:${top};width:calc(${right} - ${left});height:calc(${bottom} - ${top})` }));
      }
    });
  }
  clearTimeout(live.timer);
  live.timer = setTimeout(effect, 120);
}
const headsGiven = () => $("heads").value.trim().split(/[\s,]+/).filter(Boolean).map((text) => text.split(".").map(Number));
async function effect() {
  const answer = live.answers.at(-1), state = view.panes.at(-1), heads = headsGiven();
  if (!answer || (!live.cuts.columns.size && !heads.length)) { $("effect").textContent = live.isCutting ? "Paint over patches, click words of the prompt, or name heads: what the answer loses appears here." : ""; return; }
  const positions = [...live.cuts.columns].flatMap((column) => answer.columns[column] || []);
  try {
    const response = await fetch(`answers/${answer.name}/cut`, { method: "POST", body: JSON.stringify({ positions, heads }) });
    const found = await response.json();
    if (!response.ok) throw new Error(found.error);
    const worst = found.changes.reduce((best, change, place) => change < found.changes[best] ? place : best, 0);
    $("effect").replaceChildren(`Hidden: ${plural(positions.length, "position")}${heads.length ? ` and ${plural(heads.length, "head")}` : ""}. The answer's log-probability changes by `, el("b", {}, signed(found.total, 2)), ` nats, most at “`, bdi(state.found.maps.words[worst]?.[0] ?? ""), `” (${signed(found.changes[worst], 2)}).`);
    state.answerWords.forEach((button, place) => { button.title = `${signed(found.changes[place] ?? 0, 2)} nats with what is cut`; button.classList.toggle("changed", (found.changes[place] ?? 0) < -0.5); });
  } catch (error) { $("effect").textContent = error.message; }
}
function clearCuts() { live.cuts.columns.clear(); $("heads").value = ""; showCuts(); }
$("cut").addEventListener("click", () => {
  live.isCutting = !live.isCutting;
  $("cut").setAttribute("aria-pressed", String(live.isCutting));
  $("viewer").classList.toggle("cutting", live.isCutting);
  effect();
});
$("clear").addEventListener("click", clearCuts);
$("heads").addEventListener("change", effect);

/* Keeping --------------------------------------------------------------------------------------------------------- */

$("share").addEventListener("click", async () => {
  const address = location.href;
  try { await navigator.clipboard.writeText(address); status("The address of this view is copied; it works as long as this server runs."); } catch { status(address); }
});
$("python").addEventListener("click", async () => {
  const response = await fetch(`answers/${live.answers.at(-1).name}/python`), found = await response.json();
  $("code").hidden = false;
  $("code").textContent = found.code ?? found.error;
});
$("png").addEventListener("click", () => {
  const frame = $("viewer").querySelector(".frame");
  if (!frame) { status("This answer has no picture."); return; }
  const picture = frame.querySelector("img"), map = frame.querySelector("canvas"), sheet = document.createElement("canvas");
  sheet.width = map.width; sheet.height = map.height;
  const pen = sheet.getContext("2d");
  if (picture) pen.drawImage(picture, 0, 0, map.width, map.height);
  pen.drawImage(map, 0, 0);
  el("a", { href: sheet.toDataURL("image/png"), download: "sightline.png" }).click();
});

$("question").addEventListener("submit", (event) => { event.preventDefault(); ask(false); });
$("prompt").addEventListener("keydown", (event) => { if (event.key === "Enter" && !event.shiftKey) { event.preventDefault(); ask(false); } });
$("compare").addEventListener("click", () => ask(true));
$("stop").addEventListener("click", () => live.request?.abort());
document.addEventListener("keydown", keys);
new ResizeObserver(() => view.panes.forEach(paint)).observe($("samples"));
onTheme.push(() => view.panes.forEach(paint));
showMethods();
const kept = /^#((?:a\d+\+?)+)$/.exec(location.hash);
if (kept) (async () => {
  try {
    for (const name of kept[1].split("+").filter(Boolean)) {
      const response = await fetch(`answers/${name}`), found = await response.json();
      if (!response.ok) throw new Error(found.error);
      live.answers.push(found);
    }
    $("prompt").value = live.answers.at(-1).prompt;
    $("answer").textContent = visible(live.answers.at(-1).text);
    $("compare").disabled = false;
    live.pictures = live.answers.at(-1).images.map(({ data: picture }, place) => ({ name: `picture ${place + 1}`, data: picture }));
    showPictures();
    await showAnswers();
  } catch (error) { status(error.message); }
})();
