"use strict";
/* Keeping a view: its address, a report, a picture in pixels or in lines, and the Python that does the same. */

function remember() {
  if (!live.answers.length) return;
  const state = view.panes[0], parts = new URLSearchParams({ answers: live.answers.map(({ name }) => name).join(" ") });
  if (state) {
    parts.set("word", state.word);
    if (view.layer !== null) parts.set("layer", view.layer);
    if (view.head) parts.set("head", view.head - 1);
    if (view.style !== "heat") parts.set("map", view.style);
    if (view.words !== "attention") parts.set("by", view.words);
    if (!view.sinks) parts.set("sinks", "off");
  }
  if (cutting.columns.size) parts.set("cut", [...cutting.columns].join(" "));
  if (cutting.heads.size) parts.set("heads", [...cutting.heads].join(" "));
  history.replaceState(null, "", `#${parts}`);
}
view.onChange = remember;

async function restore() {
  const parts = new URLSearchParams(location.hash.slice(1)), names = (parts.get("answers") || "").split(" ").filter(Boolean);
  if (!names.length) return;
  const list = (name) => (parts.get(name) || "").split(" ").filter(Boolean), whole = (name) => /^\d+$/.test(parts.get(name) ?? "") ? +parts.get(name) : null;
  try {
    for (const name of names) {
      const response = await fetch(`answers/${encodeURIComponent(name)}`), found = await response.json();
      if (!response.ok) throw new Error(found.error);
      live.answers.push(found);
    }
    const last = live.answers.at(-1);
    $("prompt").value = last.prompt;
    live.turns = last.turns;
    $("view").value = last.view;
    $("another").hidden = last.view !== "another";
    $("answer").textContent = visible(last.text);
    for (const id of ["compare", "further"]) $(id).disabled = false;
    const own = live.answers.find((answer) => answer.view === "as it is") || last;
    live.pictures.push(...own.images.map(({ data: picture }, at) => ({ name: `picture ${at + 1}`, data: picture })));
    showPictures();
    showTurns();
    view.layer = whole("layer");
    view.head = whole("head") === null ? 0 : whole("head") + 1;
    view.style = STYLES.includes(parts.get("map")) ? parts.get("map") : "heat";
    view.words = parts.get("by") === "grounding" ? "grounding" : "attention";
    view.sinks = parts.get("sinks") !== "off";
    await showAnswers();
    view.panes.forEach((state) => choose(state, Math.min(whole("word") ?? state.word, state.answerWords.length - 1)));
    list("cut").map(Number).filter(Number.isInteger).forEach((column) => cutting.columns.add(column));
    list("heads").forEach((name) => cutting.heads.add(name));
    if (cutting.columns.size || cutting.heads.size) { $("cut").click(); showHeads(); showCuts(); }
    status("");
  } catch (error) { status(error.message); }
}

$("share").addEventListener("click", async () => {
  remember();
  try { await navigator.clipboard.writeText(location.href); status("The address of this view is copied; it works as long as this server runs and keeps the answer."); } catch { status(location.href); }
});
$("report").addEventListener("click", () => el("a", { href: `report?answers=${encodeURIComponent(live.answers.map(({ name }) => name).join(" "))}`, download: "sightline.html" }).click());
$("python").addEventListener("click", async () => {
  $("code").hidden = !$("code").hidden;
  $("python").setAttribute("aria-expanded", String(!$("code").hidden));
  if ($("code").hidden) return;
  const response = await fetch(`answers/${live.answers.at(-1).name}/python`), found = await response.json();
  $("code").textContent = found.code ?? found.error;
});
/** Picture and map of the first answer, as they are seen. */
$("png").addEventListener("click", () => {
  const frame = $("viewer").querySelector(".frame");
  if (!frame) { status("This answer has no picture."); return; }
  const picture = frame.querySelector("img"), map = frame.querySelector("canvas"), sheet = el("canvas", { width: Math.max(map.width, picture.naturalWidth), height: 1 });
  sheet.height = Math.round(sheet.width * map.height / map.width);
  const pen = sheet.getContext("2d");
  pen.imageSmoothingEnabled = picture.naturalWidth > 96;
  pen.drawImage(picture, 0, 0, sheet.width, sheet.height);
  pen.imageSmoothingEnabled = true;
  pen.drawImage(map, 0, 0, sheet.width, sheet.height);
  sheet.toBlob((blob) => save("sightline.png", blob), "image/png");
});
/** The same with its patches as shapes and its words as words, a picture beside the other for two answers. */
$("svg").addEventListener("click", () => {
  const shown = view.panes.filter((state) => state.frames.length && state.frames[0].image);
  if (!shown.length) { status("This answer has no picture."); return; }
  const side = 420, gap = 24, escape = (text) => visible(text).replace(/[&<>"]/g, (sign) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[sign]);
  const cut = (text) => text.length > 60 ? `${text.slice(0, 59)}…` : text;
  let most = 0;
  const parts = shown.map((state, at) => {
    const { image } = state.frames[0], height = side * image.height / image.width, left = gap + at * (side + gap), layer = layerPlace(state), values = valuesOf(state, state.word, layer), patches = shownPatches(state).filter((patch) => patch.image === 0), top = Math.max(...patches.map(({ column }) => Math.abs(values[column])), 1e-12);
    most = Math.max(most, height);
    const cells = patches.map(({ column, box: [x0, y0, x1, y1] }) => { const [colour, alpha] = coatOf(values[column] / top, state.found.maps.signed, view.style); return `<rect x="${(x0 * side).toFixed(2)}" y="${(y0 * height).toFixed(2)}" width="${((x1 - x0) * side).toFixed(2)}" height="${((y1 - y0) * height).toFixed(2)}" fill="${colour.formatHex()}" fill-opacity="${alpha.toFixed(3)}"/>`; });
    const text = (y, words, weight) => `<text x="0" y="${y}" font-size="14" font-weight="${weight}">${escape(cut(words))}</text>`;
    return `<g transform="translate(${left} ${gap})"><image href="${image.data}" width="${side}" height="${height}" preserveAspectRatio="none"${image.width <= 96 ? ' style="image-rendering:pixelated"' : ""}/>${cells.join("")}${text(height + 24, `“${state.found.maps.words[state.word]?.[0].trim() ?? ""}”, layer ${state.found.maps.layers[layer]}${isByHead(state) ? `, head ${view.head - 1}` : ""}`, 600)}${text(height + 44, `${state.node.getAttribute("aria-label")}: ${state.node.answer.text}`, 400)}</g>`;
  });
  const width = gap + shown.length * (side + gap);
  save("sightline.svg", `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${most + 80}" viewBox="0 0 ${width} ${most + 80}" font-family="sans-serif"><rect width="100%" height="100%" fill="#fff"/>${parts.join("")}</svg>`, "image/svg+xml");
});
