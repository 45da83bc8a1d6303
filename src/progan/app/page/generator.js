/** Runs the ONNX graphs by onnxruntime-web, one at a time in memory. In a worker, or in the page where there is none. */

import { download } from "./download.js";
import { labelRowOf, latent, slerp } from "./latents.js";

/**
 * @typedef {import("./engine.js").Facts} Facts
 * @typedef {import("./engine.js").Progress} Progress
 * @typedef {import("./engine.js").Wish} Wish
 */

export class Generator {
  /** @param {Facts} facts */
  constructor(facts) {
    this.facts = facts;
    this.runtime = /** @type {NonNullable<Facts["runtime"]>} */ (facts.runtime);
    this.gpu = false;
    /** @type {any} onnxruntime-web */
    this.ort = null;
    /** @type {{resolution: number, session: any} | null} */
    this.open = null;
  }

  /** @param {boolean} use */
  async useGpu(use) {
    await this.close();
    this.gpu = use;
    this.ort = null;
  }

  /**
   * Pixels RGBA of a wish.
   * @param {Wish} wish
   * @param {Progress} [progress]
   * @returns {Promise<{rgba: Uint8ClampedArray<ArrayBuffer>, seconds: number}>}
   */
  async draw(wish, progress) {
    const { z_dim, labels, channels } = this.facts, session = await this.session(wish.resolution, progress);
    const begun = performance.now(), from = latent(wish.seed, z_dim);
    const z = wish.to === "" ? from : slerp(from, latent(wish.to, z_dim), wish.t);
    /** @type {Record<string, any>} */
    const feeds = {
      z: new this.ort.Tensor("float32", z, [1, z_dim]),
      truncation: new this.ort.Tensor("float32", Float32Array.of(wish.truncation), []),
    };
    if (labels) {
      feeds.labels = new this.ort.Tensor("float32", labelRowOf(labels, wish), [1, labels.names.length]);
    }
    const outputs = await session.run(feeds), images = await outputs.images.getData();
    outputs.images.dispose();
    return { rgba: toRgba(images, channels), seconds: (performance.now() - begun) / 1000 };
  }

  /**
   * Keeps all files on the device.
   * @param {Progress} [progress]
   */
  async store(progress) {
    const { models } = this.facts, { wasm } = this.runtime;
    const files = [{ ...wasm, file: wasm.binary }, ...models];
    const total = files.reduce((sum, each) => sum + each.bytes, 0);
    let before = 0, kept = true;
    for (const each of files) {
      const got = await download(each, (done) => progress?.(before + done, total));
      before += each.bytes;
      progress?.(before, total);
      kept &&= got.kept;
    }
    return kept;
  }

  /**
   * The session of a resolution; that of another one is given up first, so that there is one in memory.
   * @param {number} resolution
   * @param {Progress} [progress]
   */
  async session(resolution, progress) {
    if (this.open?.resolution === resolution) return this.open.session;
    const model = this.facts.models.find((each) => each.resolution === resolution);
    if (!model) throw new Error(`There is no generator for ${resolution}×${resolution} here.`);
    await this.close();
    const runtime = this.gpu && this.runtime.webgpu ? this.runtime.webgpu : this.runtime.wasm;
    const binary = { ...runtime, file: runtime.binary };
    const total = (this.ort ? 0 : runtime.bytes) + model.bytes, before = this.ort ? 0 : runtime.bytes;
    if (!this.ort) {
      const { content } = await download(binary, (done) => progress?.(done, total));
      const ort = await import(new URL(runtime.module, import.meta.url).href);
      ort.env.wasm.numThreads = 1;
      ort.env.wasm.wasmBinary = content.buffer;
      ort.env.logLevel = "error";
      this.ort = ort;
    }
    const { content } = await download(model, (done) => progress?.(before + done, total));
    try {
      const session = await this.ort.InferenceSession.create(content, {
        executionProviders: [this.gpu ? "webgpu" : "wasm"],
        logSeverityLevel: 3,
      });
      this.open = { resolution, session };
      return session;
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      if (this.gpu) throw new Error("The graphics processor could not be used here. Switch it off under About.");
      if (/memory|alloc/i.test(reason)) {
        throw new Error(`${resolution}×${resolution} needs more memory than this device gives. Choose a smaller size.`);
      }
      throw new Error(`The generator could not be started: ${reason.slice(0, 200)}`);
    }
  }

  async close() {
    const session = this.open?.session;
    this.open = null;
    await session?.release();
  }
}

/**
 * Images -1…1, plane by plane, as pixels: rounded half to even and clipped, as `progan.to_pixels`.
 * @param {Float32Array} images
 * @param {number} channels
 */
export function toRgba(images, channels) {
  const plane = images.length / channels, rgba = new Uint8ClampedArray(4 * plane);
  for (let i = 0; i < plane; i++) {
    for (let c = 0; c < 3; c++) {
      rgba[4 * i + c] = Math.fround(Math.fround(images[(channels === 1 ? 0 : c * plane) + i] + 1) * 127.5);
    }
    rgba[4 * i + 3] = 255;
  }
  return rgba;
}
