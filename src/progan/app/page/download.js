/** Large files, with progress, checked, and kept on the device for the next time and for without a network. */

import { inApp } from "./platform.js";

/** Names of the caches of this page: other pages of the same origin have their own. */
const PREFIX = `progan ${new URL("./", import.meta.url).pathname} `;

/** @returns {Promise<Cache | null>} Null where the browser keeps nothing (pages without https), or need not. */
export async function store() {
  try {
    return "caches" in self && !inApp ? await caches.open(`${PREFIX}files`) : null;
  } catch {
    return null;
  }
}

/**
 * Content of a file. Its name changes with its content, so what was kept is never old.
 * @param {{file: string, bytes: number, sha256: string}} what
 * @param {import("./engine.js").Progress} [progress]
 * @returns {Promise<{content: Uint8Array<ArrayBuffer>, kept: boolean}>}
 */
export async function download(what, progress) {
  const url = new URL(what.file, import.meta.url).href, cache = await store();
  const before = await cache?.match(url);
  if (before) {
    const content = new Uint8Array(await before.arrayBuffer());
    if (content.length === what.bytes) return { content, kept: true };
  }
  let response;
  try {
    response = await fetch(url);
  } catch {
    throw new Error("The download failed: there is no connection. Try again when there is one.");
  }
  if (!response.ok || !response.body) throw new Error(`The download failed: ${what.file} is not there (${response.status}).`);
  const content = new Uint8Array(what.bytes), reader = response.body.getReader();
  let done = 0;
  try {
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      if (done + part.value.length > what.bytes) throw new RangeError();
      content.set(part.value, done);
      done += part.value.length;
      progress?.(done, what.bytes);
    }
  } catch (error) {
    await reader.cancel().catch(() => {});
    if (!(error instanceof RangeError)) throw new Error("The download broke off. Try again.");
  }
  if (done !== what.bytes || !(await fits(content, what.sha256))) {
    throw new Error(`The download of ${what.file} is not complete, or not what it should be. Reload the page.`);
  }
  let kept = false;
  try {
    await cache?.put(url, new Response(content, { headers: { "Content-Type": "application/octet-stream" } }));
    kept = Boolean(cache);
  } catch {
    // The device has no room: the picture is made all the same.
  }
  return { content, kept };
}

/**
 * @param {Uint8Array<ArrayBuffer>} content
 * @param {string} sha256
 */
async function fits(content, sha256) {
  if (!globalThis.crypto?.subtle) return true; // a page without https
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
  return [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("") === sha256;
}

/**
 * Deletes what earlier versions of this page kept.
 * @param {string[]} files Those that are needed.
 */
export async function forgetOthers(files) {
  const cache = await store(), needed = new Set(files.map((file) => new URL(file, import.meta.url).href));
  for (const request of (await cache?.keys()) ?? []) if (!needed.has(request.url)) await cache?.delete(request);
}
