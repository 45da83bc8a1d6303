import { test } from "uvu";
import * as assert from "uvu/assert";

import { range, short, thinned, ticks } from "./page/server/chart.js";
import { query } from "./page/server/engine.js";
import { describe, duration } from "./page/server/training.js";

const WISH = { seed: "9223372036854775807", to: "", toLabel: "", t: 0, truncation: 1, resolution: 8, label: "hat=cap", row: 2 };
const FACTS = /** @type {any} */ ({ server: { run: "a & b" }, models: [{ resolution: 8, file: "generator-8" }] });

test("ticks are round and lie inside", () => {
  const values = (/** @type {[number, number, number]} */ ...given) => ticks(...given).map(([value]) => value);
  assert.equal(values(0, 10, 5), [0, 2, 4, 6, 8, 10]);
  assert.equal(values(-0.31, 0.42, 4), [-0.2, 0, 0.2, 0.4]);
  assert.equal(values(1200, 1900, 3), [1500]);
});

test("ticks have the decimals of their step", () => {
  const texts = (/** @type {[number, number, number]} */ ...given) => ticks(...given).map(([, text]) => text);
  assert.equal(texts(12000, 12400, 4), ["12,000", "12,100", "12,200", "12,300", "12,400"]);
  assert.equal(texts(1.001, 1.003, 4), ["1.001", "1.002", "1.003"]);
  assert.equal(texts(-0.31, 0.42, 4), ["-0.2", "0", "0.2", "0.4"]);
  assert.equal(texts(0, 19000, 4), ["0", "5,000", "10,000", "15,000"]);
  assert.equal(texts(0.0001, 0.00016, 4), ["1.0e-4", "1.2e-4", "1.4e-4", "1.6e-4"]);
  assert.equal(texts(1.2e6, 1.24e6, 4), ["1.20e+6", "1.21e+6", "1.22e+6", "1.23e+6", "1.24e+6"]);
});

test("one value far away does not flatten the rest", () => {
  const [low, high] = range([...Array(300).keys(), 1e9]);
  assert.ok(low < 5 && high > 290 && high < 400);
  assert.equal(range([NaN]), [0, 1]);
  const [a, b] = range([3, 3]);
  assert.ok(a < 3 && b > 3);
});

test("the last point is never left out", () => {
  const points = thinned([...Array(1001).keys()], 100);
  assert.ok(points.length <= 100);
  assert.is(points[points.length - 1], 1000);
  assert.equal(thinned([1, 2]), [1, 2]);
  assert.equal(thinned([]), []);
});

test("numbers are short", () => {
  assert.equal([0, 1233, 1238, 0.5678, 123456, -1234567, 0.00012].map(short), ["0", "1,233", "1,238", "0.568", "123,456", "-1.2e+6", "1.2e-4"]);
});

test("a wish becomes a query that keeps all digits", () => {
  const plain = query(FACTS, WISH);
  assert.equal(Object.fromEntries(plain), { run: "a & b", model: "generator-8", seed: WISH.seed, truncation: "1", label: "hat=cap", row: "2" });
  const moved = query(FACTS, { ...WISH, to: "5", t: 1e-7, truncation: 0.35 });
  assert.is(moved.get("to"), "5");
  assert.is(query(FACTS, { ...WISH, toLabel: "hat=none", t: 0.5 }).get("t"), "0.5");
  assert.is(Number(moved.get("t")), 1e-7);
  assert.not.match(String(moved.get("t")), /e/);
  assert.is(Number(moved.get("truncation")), 0.35);
});

test("a state is a sentence", () => {
  const state = { live: true, asked: false, finished: false, cur_nimg: 1500, total: 6000, spans: [], resolution: 16, phase: "fade", alpha: 0.5, left: 12_000, grids: [] };
  assert.is(describe(state), "Training · 16×16, fading in (50 %) · 1.5 of 6 thousand images · 3 h 20 min left");
  assert.is(describe({ ...state, left: null, phase: "stable" }), "Training · 16×16 · 1.5 of 6 thousand images");
  assert.match(describe({ ...state, asked: true }), /^Stopping/);
  assert.match(describe({ ...state, cur_nimg: 11_400_000, total: 19_000_000 }), /11,400 of 19,000 thousand images/);
  assert.match(describe({ ...state, cur_nimg: 1_233_408, total: 12_000_000 }), /1,233\.408 of 12,000 thousand images/);
  // The last iteration may go a little beyond the end.
  assert.is(describe({ ...state, finished: true, cur_nimg: 6004, phase: "stable" }), "Finished · 16×16 · 6 of 6 thousand images");
  assert.match(describe({ ...state, live: false }), /^Not training now/);
});

test("durations are those of the console", () => {
  assert.equal([45, 720, 12_000, 4 * 86_400 + 3 * 3600].map(duration), ["45 s", "12 min", "3 h 20 min", "4 d 3 h"]);
});

test.run();
