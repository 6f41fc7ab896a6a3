"use strict";
/* Asking: pictures, the method and its fields, the question, and the answer as it is written. */

const live = { turns: [], methods: [], pictures: [], others: [], answers: [], request: null };
const status = (text) => { $("status").textContent = text; };

/* Pictures -------------------------------------------------------------------------------------------------------- */

const readFile = (file) => new Promise((resolve, reject) => {
  const reader = new FileReader();
  reader.onload = () => resolve(reader.result);
  reader.onerror = () => reject(new Error(`${file.name} cannot be read`));
  reader.readAsDataURL(file);
});
async function addPictures(files, to = live.pictures) {
  for (const file of files) {
    if (!file.type.startsWith("image/")) { status(`${file.name} is no picture.`); continue; }
    try { to.push({ name: file.name, data: await readFile(file) }); } catch (error) { status(error.message); }
  }
  showPictures();
}
function thumbsOf(pictures, what) {
  return pictures.map((picture, place) => el("button", { type: "button", title: `Take ${visible(picture.name)} out`, "aria-label": `Take ${what} ${place + 1}, ${visible(picture.name)}, out`, click: () => { pictures.splice(place, 1); showPictures(); } },
    el("img", { src: picture.data, alt: "" }), el("span", { class: "out", "aria-hidden": "true" }, "✕")));
}
function showPictures() {
  $("thumbs").replaceChildren(...thumbsOf(live.pictures, "picture"));
  $("otherthumbs").replaceChildren(...thumbsOf(live.others, "other picture"));
  showHint();
}
$("images").addEventListener("change", async (event) => { const files = [...event.target.files]; live.pictures.length = 0; await addPictures(files); });
$("others").addEventListener("change", async (event) => { const files = [...event.target.files]; live.others.length = 0; await addPictures(files, live.others); });
for (const name of ["dragover", "dragleave", "drop"]) $("drop").addEventListener(name, (event) => {
  event.preventDefault();
  $("drop").classList.toggle("over", name === "dragover");
  if (name === "drop") addPictures([...event.dataTransfer.files]);
});
document.addEventListener("paste", (event) => { const files = [...event.clipboardData.files]; if (files.length) addPictures(files); });
$("view").addEventListener("change", () => { $("another").hidden = $("view").value !== "another"; showHint(); });

/** What to do next, for who has no manual. */
function showHint() {
  if (live.request) return;
  const isFirst = !live.answers.length;
  if ($("view").value === "another" && !live.others.length) status("Choose the other picture, then ask or compare.");
  else if (isFirst && !live.pictures.length) status("Choose a picture, write a question, press Enter. Without a picture the model answers from words alone.");
  else if (isFirst) status("Write a question and press Enter.");
}

/* Methods --------------------------------------------------------------------------------------------------------- */

const chosen = () => live.methods.find(({ name }) => name === $("method").value);
async function showMethods() {
  $("method").append(el("option", { value: "none" }, "none"));
  status("The model is being loaded …");
  for (;;) { // the page is here before the model
    const response = await fetch("methods");
    if (response.ok) { live.methods = await response.json(); break; }
    status((await response.json()).error);
    await new Promise((resolve) => setTimeout(resolve, 400));
  }
  if (!live.request) status("");
  showHint();
  $("method").append(...live.methods.map(({ name, about: text }) => el("option", { value: name, title: text }, name)));
  $("method").addEventListener("change", showFields);
}
const written = (value) => Array.isArray(value) ? value.join("+") : value === true ? "true" : value === false ? "false" : value ?? "";
function showFields() {
  const method = chosen();
  $("about").textContent = method ? method.about + (method.needs ? ` ${method.needs}` : "") : "";
  $("fields").replaceChildren(...(method ? method.fields.map(fieldOf) : []));
}
/** A field is a number that a slider moves as well, a choice, a switch, or words. */
function fieldOf({ name, default: value, help, kind, low, high, step, choices }) {
  const given = String(written(value)), about = { "data-field": name, "data-default": given, "aria-label": `${name}: ${help}` };
  const label = (...inside) => el("label", { title: help }, el("span", {}, words(name)), ...inside);
  if (kind === "choice") return label(el("select", about, choices.map((choice) => el("option", { selected: choice === value }, choice))));
  if (kind === "switch") return label(el("select", about, ["true", "false"].map((choice) => el("option", { value: choice, selected: choice === given }, choice === "true" ? "on" : "off"))));
  if (kind === "text") return label(el("input", { ...about, size: 8, value: given, placeholder: value === null ? "by default" : "" }));
  const exact = el("input", { ...about, type: "number", step: "any", value: given, placeholder: "auto" });
  const slider = el("input", { type: "range", min: low, max: high, step, value: value ?? low, "aria-label": `${name}, slider from ${low} to ${high}` });
  slider.addEventListener("input", () => { exact.value = slider.value; });
  exact.addEventListener("input", () => { slider.value = exact.value; });
  return label(slider, exact);
}
function spec() {
  const method = chosen();
  if (!method) return "none";
  const given = [...$("fields").querySelectorAll("[data-field]")].filter((input) => input.value !== input.dataset.default && input.value !== "").map((input) => `${input.dataset.field}=${input.value}`);
  return method.name + (given.length ? `:${given.join(",")}` : "");
}

/* Asking ---------------------------------------------------------------------------------------------------------- */

async function ask(isBeside) {
  if (live.request) return;
  stopCuts();
  const controller = live.request = new AbortController();
  $("stop").hidden = false;
  document.querySelectorAll(".go, #compare").forEach((button) => { button.disabled = true; });
  $("answer").textContent = "";
  $("answer").classList.remove("bad");
  status("Waiting for the model …");
  try {
    const body = { prompt: $("prompt").value, images: live.pictures.map(({ data: picture }) => picture), others: $("view").value === "another" ? live.others.map(({ data: picture }) => picture) : [], turns: live.turns, method: spec(), view: $("view").value, new_tokens: +$("tokens").value };
    const response = await fetch("ask", { method: "POST", body: JSON.stringify(body), signal: controller.signal });
    if (!response.ok) throw new Error((await response.json()).error);
    for await (const event of lines(response.body)) {
      if (event.place) status(`${plural(event.place, "question")} before yours in the line …`);
      else if (event.loaded === false) status("The model is being loaded …");
      else if (event.place === 0) status("The model reads …");
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
  status(`Answered in ${answer.seconds.toFixed(2)} s. Click a word to see where the model looked when it wrote it.`);
  $("answer").textContent = visible(answer.text) || "(empty)";
  clearCuts();
  await showAnswers();
  changed();
}

