"use strict";
/* The report: every part drawn once. */

new ResizeObserver(() => view.panes.forEach(paint)).observe($("samples"));
headline();
attention();
sinks();
methods();
training();
samples();
settings();
