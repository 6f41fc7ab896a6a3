"use strict";
/* Methods held against each other, the items that they flip, and training. */

/** Better and worse by sign, place and colour; what an interval does not tell from nothing is grey, as controls are. */
const TONES = { better: ["var(--better)", "▲ better"], worse: ["var(--worse)", "▼ worse"], unclear: ["var(--soft)", "no sure change"], control: ["var(--faint)", "control"] };
function toneOf(pair, found) {
  if (found.controls.includes(pair.b)) return "control";
  if (!pair.ci95 || (pair.ci95[0] <= 0 && pair.ci95[1] >= 0)) return "unclear";
  return (pair.delta > 0) === (found.better !== "smaller") ? "better" : "worse";
}
const pOf = (pair) => pair.p_holm ?? pair.p_value;
const pName = (found) => (found.paired || []).some((pair) => isNumber(pair.p_holm) && pair.p_holm !== pair.p_value) ? "p by an exact sign-flip test over independent units and Holm's method for all comparisons" : "p by an exact sign-flip test over independent units";

function forest(rows, zero, format) {
  return (width) => Plot.plot({
    width, height: 46 + 40 * rows.length, marginLeft: Math.min(width * 0.42, Math.max(50, ...rows.map((row) => 12 + 7 * row.name.length))), marginBottom: 32, marginTop: 6, style: plotStyle,
    x: { label: null, grid: true, tickFormat: format, nice: true, ticks: Math.max(2, Math.min(6, Math.floor(width / 110))) }, y: { label: null, domain: rows.map((row) => row.name), tickSize: 0, tickFormat: (name) => { const most = Math.floor(width * 0.06) + 4; return name.length > most ? `${name.slice(0, most - 1)}…` : name; } },
    marks: [
      zero === null ? null : Plot.ruleX([zero], { stroke: "var(--soft)", strokeDasharray: "2 3" }),
      Plot.ruleY(rows.filter((row) => isNumber(row.low)), { y: "name", x1: "low", x2: "high", stroke: (row) => row.ink, strokeWidth: 3, strokeOpacity: 0.5, strokeLinecap: "round" }),
      Plot.dot(rows, { y: "name", x: "value", fill: (row) => row.ink, symbol: (row) => row.isControl ? "diamond" : "circle", r: 5.5, stroke: "var(--card)", strokeWidth: 1.5 }),
      Plot.text(rows, { y: "name", x: "value", text: (row) => row.label, dy: -13, fontWeight: 600, fontSize: 12, fill: "var(--ink)" }),
    ],
  });
}
const tones = (all) => legend([...new Set(all)].map((tone) => [TONES[tone][1], TONES[tone][0], "mark"]));

function methods() {
  if (!data.evaluations.length) return;
  const node = part("methods", "Methods compared", "The same items for every method, decoded greedily. Intervals are 95% bootstrap intervals; differences are paired, item by item.");
  overall(node);
  for (const found of data.evaluations) {
    const names = Object.keys(found.methods), pairs = (found.paired || []).filter((pair) => isNumber(pair.delta));
    const of = (name) => pairs.find((pair) => pair.b === name), ink = (name) => TONES[of(name) ? toneOf(of(name), found) : found.controls.includes(name) ? "control" : "unclear"][0];
    const rows = names.map((name) => ({ name, ink: ink(name), isControl: found.controls.includes(name), value: found.methods[name][found.headline], low: (found.methods[name][`${found.headline}_ci95`] || [])[0], high: (found.methods[name][`${found.headline}_ci95`] || [])[1], label: figure(found.methods[name][found.headline]) })).filter((row) => isNumber(row.value));
    const differences = pairs.map((pair) => ({ name: pair.b, tone: toneOf(pair, found), ink: ink(pair.b), isControl: found.controls.includes(pair.b), value: pair.delta, low: (pair.ci95 || [])[0], high: (pair.ci95 || [])[1], label: `${signed(pair.delta, 3)}  ${pText(pOf(pair))}` }));
    const figures = Object.entries(Object.values(found.methods)[0] || {}).filter(([name, value]) => isNumber(value) && !name.includes("ci95")).map(([name]) => name);
    const better = found.better === "smaller" ? "smaller is better" : "larger is better";
    const scores = chart(`${found.bench}: ${words(found.headline)}`, `${found.title}, ${plural(found.n, "item")}; ${better}.`, forest(rows, null, axis), [["method", ...figures.map(words)], names.map((name) => [name, ...figures.map((key) => found.methods[name][key] ?? "–")])]);
    const against = differences.length ? chart(`Against ${found.paired[0].a}`, `Paired difference of ${words(found.headline)} on ${found.bench}; ${pName(found)}.`, forest(differences, 0, (value) => value ? signed(value, 3).replace(/0+$/, "").replace(/\.$/, "") : "0"),
      [["method", "difference", "95% interval", "sign-flip p", "p by Holm", "right before only", "right now only", "items", "independent"], found.paired.map((pair) => [pair.b, pair.delta ?? "–", pair.ci95 ?? "–", isNumber(pair.p_value) ? pair.p_value : "–", isNumber(pair.p_holm) ? pair.p_holm : "–", ...pair.flips, pair.n ?? "–", pair.units ?? "–"])]) : null;
    if (against) against.querySelector("figcaption").append(tones(differences.map((row) => row.tone)));
    node.append(el("div", { class: "charts" }, scores, against));
  }
  flipped(node);
}

/** Every method on every benchmark by its gain: a share's in points of a hundred, so that larger is better throughout. */
function overall(node) {
  const several = data.evaluations.length > 1, isByBench = new Set(data.evaluations.map((found) => found.bench)).size === data.evaluations.length;
  const rows = data.evaluations.flatMap((found) => (found.paired || []).filter((pair) => isNumber(pair.delta)).map((pair) => {
    const way = found.better === "smaller" ? -1 : 1, values = Object.values(found.methods).map((each) => each[found.headline]).filter(isNumber);
    const scale = values.every((value) => value >= 0 && value <= 1) ? 100 : null;
    const gain = (value) => way * value * (scale || 1), ends = (pair.ci95 || []).map(gain).sort((one, other) => one - other);
    const [before, after] = [pair.a, pair.b].map((name) => found.methods[name]?.seconds_per_item), tone = toneOf(pair, found);
    return { name: several ? `${pair.b}, ${isByBench ? found.bench : found.title}` : pair.b, method: pair.b, isPoints: Boolean(scale), isControl: tone === "control", tone, ink: TONES[tone][0], value: gain(pair.delta), low: ends[0], high: ends[1], p: pOf(pair), times: before > 0 && isNumber(after) ? after / before : null, label: `${signed(gain(pair.delta), 1)}  ${pText(pOf(pair))}` };
  })).sort((one, other) => other.value - one.value);
  const sorted = rows.filter((row) => row.isPoints);
  const others = rows.length - sorted.length;
  if (sorted.length < 2) return;
  const note = `Gain over the first method in points of a hundred, the largest first; right of zero is better on every benchmark.${others ? ` ${plural(others, "comparison")} on other scales ${others === 1 ? "stands" : "stand"} below.` : ""}`;
  const numbers = [["method", "gain in points", "95% interval", "p", "times the time"], sorted.map((row) => [row.name, row.value, isNumber(row.low) ? [row.low, row.high] : "–", row.p ?? "–", row.times ?? "–"])];
  const all = chart("Every method by its effect", note, forest(sorted, 0, (value) => value ? signed(value, 1).replace(/\.0$/, "") : "0"), numbers);
  all.querySelector("figcaption").append(tones(sorted.map((row) => row.tone)));
  const timed = sorted.filter((row) => isNumber(row.times));
  node.append(el("div", { class: "charts" }, all, timed.length > 1 ? chart("Gain against time", "What a method gains, in points, for how many times the time of the first method.", (width) => Plot.plot({
    width, height: Math.max(240, Math.min(420, 46 + 40 * sorted.length)), marginLeft: 44, marginBottom: 38, marginRight: 70, style: plotStyle,
    x: { label: "times the time", grid: true, nice: true, ticks: 5, tickFormat: (value) => `${axis(value)}×` }, y: { label: null, grid: true, nice: true, ticks: 6, tickFormat: (value) => value ? signed(value, 1).replace(/\.0$/, "") : "0" },
    marks: [Plot.ruleY([0], { stroke: "var(--soft)", strokeDasharray: "2 3" }), Plot.ruleX([1], { stroke: "var(--soft)", strokeDasharray: "2 3" }),
      Plot.dot(timed, { x: "times", y: "value", fill: (row) => row.ink, symbol: (row) => row.isControl ? "diamond" : "circle", r: 5.5, stroke: "var(--card)" }),
      Plot.text(timed, { x: "times", y: "value", text: "name", textAnchor: "start", dx: 8, fontSize: 11, fill: "var(--ink)" })],
  }), numbers) : null));
}

/** Items that are right with one method only: what a mean hides. */
const FLIPPED = 12;
function flipped(node) {
  const runs = new Set(data.evaluations.map((found) => found.run));
  const turn = (sample) => { const [one, ...rest] = sample.variants; return rest.find((other) => typeof one.right === "boolean" && typeof other.right === "boolean" && one.right !== other.right && !data.evaluations.some((found) => found.run === sample.run && found.controls.includes(other.method))); };
  const all = data.samples.map((sample, place) => ({ sample, place, other: turn(sample) })).filter(({ sample, other }) => runs.has(sample.run) && other);
  if (!all.length) return;
  const ways = { "all": () => true, "made right": ({ other }) => other.right, "made wrong": ({ other }) => !other.right };
  const host = el("div", { class: "gallery" }), count = el("span", { class: "note", role: "status" });
  let shown = FLIPPED, way = "all";
  const more = el("button", { type: "button", class: "quiet", click: () => { shown += FLIPPED; draw(); } }, "Show more");
  const card = ({ sample, place, other }) => {
    const images = imagesOf(place), one = sample.variants[0];
    return el("button", { type: "button", class: `card flip ${other.right ? "up" : "down"}`, click: () => { show(place, true); $("samples").scrollIntoView(); } },
      images.length ? el("img", { src: images[0].data, alt: "", class: images[0].width <= 96 ? "tiny" : null }) : null,
      el("span", { class: "ask" }, bdi(sample.prompt || "")), sample.truth !== null ? el("span", { class: "what" }, "truth: ", bdi(sample.truth)) : null,
      [one, other].map((variant) => el("span", { class: "answer-of" }, el("span", { class: variant.right ? "mark right" : "mark wrong", "aria-label": variant.right ? "right" : "wrong" }, variant.right ? "✓" : "✗"), " ", el("b", {}, bdi(variant.method)), " ", bdi(variant.answer ?? "–"))));
  };
  const draw = () => { const chosen = all.filter(ways[way]); host.replaceChildren(...chosen.slice(0, shown).map(card)); more.hidden = chosen.length <= shown; count.textContent = `${Math.min(shown, chosen.length)} of ${plural(chosen.length, "item")}`; };
  const choice = el("select", { "aria-label": "Which flipped items", change: (event) => { way = event.target.value; shown = FLIPPED; draw(); } }, Object.keys(ways).map((name) => el("option", {}, name)));
  node.append(el("h3", { class: "of" }, "Flipped items"), el("p", { class: "lead" }, "Items whose answer is right with one method and wrong with the other: what a mean does not show."), el("div", { class: "row" }, choice, count), host, more);
  draw();
}

function training() {
  if (!data.training.length) return;
  const node = part("training", "Training", "What the trainer logged, by optimiser step.");
  const names = [...new Set(data.training.flatMap((found) => Object.keys(found.series)))].sort((one, other) => other.includes("loss") - one.includes("loss"));
  if (data.training.length > 1) node.append(legend(data.training.map((found, place) => [found.name, colour(place)])));
  node.append(el("div", { class: "charts" }, names.slice(0, 12).map((name) => {
    const rows = data.training.flatMap((found, place) => (found.series[name] || []).map(([step, value]) => ({ step, value, place })));
    return chart(words(name), data.training.filter((found) => found.series[name]).map((found) => found.name).join(", "), (width) => Plot.plot({
      width, height: 220, marginLeft: 48, marginBottom: 34, style: plotStyle, x: { label: "step", ticks: 5 }, y: { label: null, grid: true, ticks: 5, tickFormat: "~g" },
      marks: [Plot.line(rows, { x: "step", y: "value", z: "place", stroke: (row) => colour(row.place), strokeWidth: 2 }), Plot.dot(rows.length > 40 ? [] : rows, { x: "step", y: "value", fill: (row) => colour(row.place), r: 2.5 }), Plot.tip(rows, Plot.pointerX({ x: "step", y: "value", title: (row) => `step ${row.step}: ${row.value.toPrecision(4)}` }))],
    }), [["run", "step", words(name)], rows.map((row) => [data.training[row.place].name, row.step, row.value])]);
  })));
}
