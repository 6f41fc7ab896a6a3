"use strict";
/* The report: every part drawn once. */

new ResizeObserver(() => view.panes.forEach(paint)).observe($("samples"));
headline();
methods();
attention();
impact();
sinks();
training();
samples();
settings();
