import { test } from "uvu";
import * as assert from "uvu/assert";

import { fromHash, toHash } from "./page/wish.js";

const FACTS = /** @type {any} */ ({ models: [{ resolution: 16 }], snapshot: "abc", labels: null });

test("a link has as many pictures as make a square", () => {
  const counts = ["", "0", "1", "2", "4", "5", "9", "16", "25", "64", "4.0", "-4", "x"].map((count) => fromHash(FACTS, `#seed=5&count=${count}`).count);
  assert.equal(counts, [1, 1, 1, 1, 4, 1, 9, 16, 1, 1, 1, 1, 1]);
  for (const count of [1, 4, 9, 16]) assert.is(fromHash(FACTS, toHash(FACTS, fromHash(FACTS, "").wish, count)).count, count);
});

test.run();
