/** The engine that makes pictures on the device that shows the page. */

import { filmsHere } from "./film.js";
import { Generator } from "./generator.js";
import { inApp } from "./platform.js";

/**
 * @typedef {import("./engine.js").Engine} Engine
 * @typedef {import("./engine.js").Facts} Facts
 * @typedef {import("./engine.js").Progress} Progress
 */

/** A function with one vector addition: what the runtime needs and old browsers have not. */
const SIMD = Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11);

/**
 * @param {Facts} facts
 * @returns {Promise<Engine>}
 */
export async function openDevice(facts) {
  if (typeof WebAssembly !== "object" || !WebAssembly.validate(SIMD)) {
    const who = inApp ? "Android System WebView" : "This browser";
    throw new Error(`${who} is too old to make pictures by itself: it has no WebAssembly SIMD. Update it.`);
  }
  const { runtime } = facts, call = (await beside(facts)) ?? here(facts);
  /** Calls wait for each other: there is one generator. */
  let last = Promise.resolve();
  /** @param {string} name @param {any} value @param {Progress} [progress] @returns {Promise<any>} */
  const inTurn = (name, value, progress) => {
    const result = last.then(() => call(name, value, progress));
    last = result.catch(() => {});
    return result;
  };
  /** @type {Engine["draw"]} */
  const draw = async (wish, progress) => {
    const { rgba, seconds } = await inTurn("draw", wish, progress);
    return { pixels: new ImageData(rgba, wish.resolution, wish.resolution), seconds };
  };
  const films = filmsHere(draw), can = films.map(({ suffix }) => suffix);
  return {
    draw,
    store: "caches" in self && !inApp ? (progress) => inTurn("store", null, progress) : null,
    useGpu: runtime?.webgpu && "gpu" in navigator ? (use) => inTurn("useGpu", use) : null,
    films,
    lacks: can.includes("mp4") ? "" : `This browser makes no MP4${can.length > 0 ? "" : ", nor any other film"}.`,
  };
}

/**
 * A generator in a worker; null where the browser has no workers that are modules.
 * @param {Facts} facts
 * @returns {Promise<((name: string, value: any, progress?: Progress) => Promise<any>) | null>}
 */
async function beside(facts) {
  /** @type {Map<number, {resolve: (value: any) => void, reject: (error: Error) => void, progress?: Progress}>} */
  const waiting = new Map();
  let count = 0, worker;
  try {
    worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
  } catch {
    return null;
  }
  const running = worker;
  /** @param {string} name @param {any} value @param {Progress} [progress] @returns {Promise<any>} */
  const call = (name, value, progress) =>
    new Promise((resolve, reject) => {
      waiting.set(++count, { resolve, reject, progress });
      running.postMessage({ id: count, call: name, value });
    });
  running.onmessage = ({ data: { id, done, total, result, error } }) => {
    const entry = waiting.get(id);
    if (total !== undefined) return entry?.progress?.(done, total);
    waiting.delete(id);
    if (error === undefined) entry?.resolve(result);
    else entry?.reject(new Error(error));
  };
  running.onerror = (event) => {
    event.preventDefault();
    for (const { reject } of waiting.values()) reject(new Error("The generator stopped. Reload the page."));
    waiting.clear();
  };
  try {
    await call("begin", facts);
    return call;
  } catch {
    running.terminate();
    return null;
  }
}

/**
 * A generator in the page itself.
 * @param {Facts} facts
 * @returns {(name: string, value: any, progress?: Progress) => Promise<any>}
 */
function here(facts) {
  const generator = new Generator(facts);
  return (name, value, progress) =>
    name === "draw" ? generator.draw(value, progress)
      : name === "store" ? generator.store(progress)
      : generator.useGpu(value);
}
