"use strict";
/* The live page: what starts it. */

$("question").addEventListener("submit", (event) => { event.preventDefault(); ask(false); });
$("prompt").addEventListener("keydown", (event) => { if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); ask(false); } });
$("compare").addEventListener("click", () => ask(true));
$("stop").addEventListener("click", () => live.request?.abort());
document.addEventListener("keydown", keys);
new ResizeObserver(() => view.panes.forEach(paint)).observe($("samples"));
onTheme.push(() => view.panes.forEach(paint));
showMethods();
restore();
