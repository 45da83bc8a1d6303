/** The engine that asks the server of `progan app` for pictures. */

import { reason } from "../engine.js";
import { moves } from "../wish.js";

/**
 * @typedef {import("../engine.js").Engine} Engine
 * @typedef {import("../engine.js").Facts} Facts
 * @typedef {import("../engine.js").Wish} Wish
 */

const PATIENCE = 30; // times that a server which is busy is asked again

/**
 * @param {Facts} facts
 * @returns {Engine}
 */
export function openServer(facts) {
  return {
    async draw(wish) {
      const response = await ask(`api/picture?${query(facts, wish)}`), { resolution } = wish;
      const rgb = new Uint8Array(await response.arrayBuffer());
      return { pixels: toImage(rgb, resolution), seconds: Number(response.headers.get("x-progan-seconds")) };
    },
    store: null,
    useGpu: null,
    films: ["webp", ...(facts.server?.mp4 ? ["mp4"] : [])].map((suffix) => ({
      suffix,
      make: async (wish) => (await ask(`api/film?${query(facts, wish)}&kind=${suffix}`)).blob(),
    })),
    lacks: facts.server?.mp4 ? "" : "No MP4: the computer that progan runs on lacks PyAV, pip install '.[video]'.",
  };
}

/**
 * A wish as the query of an address.
 * @param {Facts} facts
 * @param {Wish} wish
 */
export function query(facts, wish) {
  const { seed, truncation, resolution, label, row } = wish;
  const model = facts.models.find((each) => each.resolution === resolution)?.file ?? "";
  const words = { run: facts.server?.run ?? "", model, seed, truncation: plain(truncation), label, row: String(row) };
  const { to, toLabel } = wish;
  return new URLSearchParams(moves(wish) ? { ...words, to, toLabel, t: plain(wish.t) } : words);
}

/**
 * A number without an exponent.
 * @param {number} value
 */
const plain = (value) => value.toFixed(17).replace(/\.?0+$/, "");

/**
 * Pixels of RGB as an image.
 * @param {Uint8Array} rgb
 * @param {number} side
 */
export function toImage(rgb, side) {
  if (rgb.length !== 3 * side * side) throw new Error("The server sent something else than a picture.");
  const image = new ImageData(side, side), { data } = image;
  for (let i = 0, j = 0; i < rgb.length; i += 3, j += 4) {
    data[j] = rgb[i];
    data[j + 1] = rgb[i + 1];
    data[j + 2] = rgb[i + 2];
    data[j + 3] = 255;
  }
  return image;
}

/**
 * Pixels of RGB in base64 as an image.
 * @param {string} text
 * @param {number} side
 */
export const decoded = (text, side) => toImage(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)), side);

/**
 * The server's answer; asks again if it is busy. Rejects with an Error whose message is a sentence for people.
 * @param {string} address
 * @param {RequestInit} [settings]
 * @returns {Promise<Response>}
 */
export async function ask(address, settings) {
  for (let i = 0; ; i++) {
    let response;
    try {
      response = await fetch(address, settings);
    } catch (error) {
      if (error instanceof DOMException && error.name === "AbortError") throw error;
      throw new Error("The server does not answer. Is progan app still running?");
    }
    if (response.ok) return response;
    if (response.status !== 503 || i === PATIENCE) throw new Error(await reason(response, `The server refused (${response.status}).`));
    await new Promise((resolve) => setTimeout(resolve, 300 + 700 * Math.random()));
  }
}
