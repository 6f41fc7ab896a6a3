"use strict";
/* Looking at answers: each word's map, probability and runners-up; two answers side by side; the lens of a patch; turns. */

async function showAnswers() {
  const found = await Promise.all(live.answers.map(({ maps }) => decode(maps)));
  view.layers = [...new Set(found.flatMap(({ maps }) => maps.layers))].sort((one, other) => one - other);
  if (!view.layers.includes(view.layer)) view.layer = view.layers[Math.floor(view.layers.length * 0.6)];
  view.heads = Math.max(0, ...found.map((each) => each.heads ? each.heads.heads : 0));
  view.head = Math.min(view.head, view.heads);
  const isAlone = live.answers.length === 1;
  $("lens").replaceChildren();
  $("difference").textContent = "";
  $("viewer").hidden = $("tools").hidden = false;
  const word = tellingWord(found);
  $("viewer").replaceChildren(
    el("div", { class: "question" }, el("h3", {}, bdi(live.answers.at(-1).prompt))),
    controls(found),
    el("div", { class: "panes" }, live.answers.map((answer, place) => {
      const name = [answer.method, { blank: "blank picture", another: "another picture", without: "without picture" }[answer.view]].filter((part) => part && part !== "none").join(", ");
      const node = pane({ id: answer.name, images: answer.images }, { name: name || "plain", answer: answer.text, maps: answer.maps }, found[place], isAlone, word);
      node.answer = answer;
      node.querySelector(".sum").after(el("p", { class: "runners" }));
      return node;
    })), help());
  view.panes = [...$("viewer").querySelectorAll(".pane")].map((node) => node.state).filter(Boolean);
  view.panes.forEach((state) => { paint(state); follow(state); runners(state); });
  if (!isAlone) markChanges();
  showHeads();
  if (cutting.isOn) { view.panes.at(-1).showsEffects = true; mapCuts(); }
}
/** The probability of the chosen word, and what else the model might have written. */
function runners(state) {
  const { answer } = state.node, word = answer.words[state.word], host = state.node.querySelector(".runners");
  host.replaceChildren(...(word ? [`Probability ${share(word.probability)}; runners-up: `, word.runners.flatMap(([text, probability], place) => [place ? ", " : "", el("b", {}, "“", bdi(text), "”"), ` ${share(probability)}`])] : []).flat());
}
/** A word's figures, and a patch's lens, follow what is chosen. */
function follow(state) {
  state.answerWords.forEach((button) => { for (const name of ["click", "focus"]) button.addEventListener(name, () => runners(state)); });
  state.promptWords.forEach((node, place) => {
    node.setAttribute("role", "button");
    node.setAttribute("aria-label", `Cut “${node.textContent}”`);
    node.addEventListener("click", () => { if (cutting.isOn) toggle([place]); });
    node.addEventListener("keydown", (event) => { if (cutting.isOn && (event.key === "Enter" || event.key === " ")) { event.preventDefault(); toggle([place]); } });
  });
  state.frames.forEach(({ canvas, light }, image) => {
    for (const each of [canvas, light]) if (each) {
      brush(state, each, image);
      each.addEventListener("click", () => { if (!cutting.isOn) lens(state); });
      each.addEventListener("keyup", (event) => { if (!cutting.isOn && event.key.startsWith("Arrow")) lens(state); });
    }
  });
}
/** Words that the other answer does not have at their place: the longest common row of words is left unmarked. */
function markChanges() {
  const [one, other] = view.panes.map((state) => state.found.maps.words.map(([text]) => text.trim()));
  const lengths = Array.from({ length: one.length + 1 }, () => new Uint16Array(other.length + 1));
  for (let i = one.length - 1; i >= 0; i -= 1) for (let j = other.length - 1; j >= 0; j -= 1) lengths[i][j] = one[i] === other[j] ? lengths[i + 1][j + 1] + 1 : Math.max(lengths[i + 1][j], lengths[i][j + 1]);
  const kept = [new Set(), new Set()];
  for (let i = 0, j = 0; i < one.length && j < other.length;) {
    if (one[i] === other[j]) { kept[0].add(i); kept[1].add(j); i += 1; j += 1; }
    else if (lengths[i + 1][j] >= lengths[i][j + 1]) i += 1;
    else j += 1;
  }
  view.panes.forEach((state, at) => state.answerWords.forEach((button, place) => {
    button.classList.toggle("changed", !kept[at].has(place));
    if (!kept[at].has(place)) button.setAttribute("aria-description", "differs from the other answer");
  }));
  const differing = one.length - kept[0].size + other.length - kept[1].size;
  $("difference").textContent = differing ? "Underlined words differ between the two answers." : "The two answers are the same, word by word.";
}

/** What each layer makes of a patch: the words that its state is nearest to. */
async function lens(state) {
  const answer = state.node.answer, position = state.fixed && (answer.columns[state.fixed.column] || [])[0];
  if (position === undefined || position === null) { $("lens").textContent = ""; return; }
  const response = await fetch(`answers/${answer.name}/lens/${position}`), found = await response.json();
  if (!state.fixed || (state.node.answer.columns[state.fixed.column] || [])[0] !== position) return; // another patch is chosen by now
  if (!response.ok) { $("lens").textContent = found.error; return; }
  $("lens").replaceChildren(`Logit lens of ${state.fixed.label}, the word nearest to its state behind each layer: `, el("ol", { class: "layers", start: 0 }, found.layers.map(({ layer, tokens }) => el("li", { title: tokens.map(([text, chance]) => `${visible(text)} ${share(chance)}`).join(", ") }, el("span", { class: "note" }, layer === 0 ? "in" : String(layer)), " ", el("b", {}, bdi(tokens[0][0])), ` ${share(tokens[0][1])}`))));
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

