/** The generator beside the page, so that the page never freezes. */

import { Generator } from "./generator.js";

/** @type {Generator} */
let generator;

/** @param {MessageEvent<{id: number, call: "begin" | "draw" | "store" | "useGpu", value: any}>} event */
self.onmessage = async ({ data: { id, call, value } }) => {
  /** @type {import("./engine.js").Progress} */
  const progress = (done, total) => self.postMessage({ id, done, total });
  try {
    if (call === "begin") {
      generator = new Generator(value);
      self.postMessage({ id, result: true });
    } else {
      const result = call === "draw" ? await generator.draw(value, progress)
        : call === "store" ? await generator.store(progress)
        : await generator.useGpu(value);
      self.postMessage({ id, result });
    }
  } catch (error) {
    self.postMessage({ id, error: error instanceof Error ? error.message : String(error) });
  }
};
