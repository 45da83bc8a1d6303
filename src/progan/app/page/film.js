/**
 * A morph as a file, by the means of the browser: a strip of pictures, an animated WebP, or a video that the browser
 * records.
 */

import { make, paint } from "./dom.js";

/**
 * @typedef {import("./engine.js").Picture} Picture
 * @typedef {import("./engine.js").FilmKind} FilmKind
 * @typedef {import("./engine.js").Wish} Wish
 */

/** Pictures of a strip; frames from one picture to the other; frames a second; pixels of a side of a film at least. */
const STRIP = 9, FRAMES = 45, FPS = 20, SIDE = 256;
const QUALITY = 0.9;
/** What browsers record, by suffix, the first that one can. */
const VIDEOS = { webm: ["video/webm;codecs=vp9", "video/webm;codecs=vp8", "video/webm"], mp4: ["video/mp4;codecs=avc1.42E01F", "video/mp4"] };

/**
 * Pictures of the way side by side, both ends included.
 * @param {(wish: Wish) => Promise<Picture>} draw
 * @param {Wish} wish
 */
export async function strip(draw, wish) {
  const side = wish.resolution, canvas = make("canvas", { width: STRIP * side, height: side });
  for (let i = 0; i < STRIP; i++) {
    const { pixels } = await draw({ ...wish, t: i / (STRIP - 1) });
    canvas.getContext("2d")?.putImageData(pixels, i * side, 0);
  }
  return canvas;
}

/**
 * Films that this browser makes by itself of pictures that are drawn here.
 * @param {(wish: Wish) => Promise<Picture>} draw
 * @returns {FilmKind[]}
 */
export function filmsHere(draw) {
  /** @type {FilmKind[]} */
  const kinds = [];
  if (make("canvas", { width: 1, height: 1 }).toDataURL("image/webp").startsWith("data:image/webp")) {
    kinds.push({ suffix: "webp", make: async (wish, progress) => animation(await frames(draw, wish, progress)) });
  }
  for (const [suffix, types] of Object.entries(VIDEOS)) {
    const type = globalThis.MediaRecorder && "captureStream" in HTMLCanvasElement.prototype && types.find((each) => MediaRecorder.isTypeSupported(each));
    if (type) kinds.push({ suffix, make: async (wish, progress) => recording(await frames(draw, wish, progress), type) });
  }
  return kinds;
}

/**
 * The pictures of a film from one end to the other, each pixel shown as a square of some.
 * @param {(wish: Wish) => Promise<Picture>} draw
 * @param {Wish} wish
 * @param {import("./engine.js").Progress} progress
 */
async function frames(draw, wish, progress) {
  const small = make("canvas"), side = wish.resolution * Math.max(1, Math.floor(SIDE / wish.resolution));
  const found = [];
  for (let i = 0; i < FRAMES; i++) {
    paint(small, (await draw({ ...wish, t: i / (FRAMES - 1) })).pixels);
    const large = make("canvas", { width: side, height: side }), context = large.getContext("2d", { alpha: false });
    if (!context) throw new Error("This device has no room for a film.");
    context.imageSmoothingEnabled = false;
    context.drawImage(small, 0, 0, side, side);
    found.push(large);
    progress(i + 1, FRAMES);
  }
  return found;
}

/**
 * There, and back without the ends, so that the film goes round.
 * @template T
 * @param {T[]} way
 */
const thereAndBack = (way) => [...way, ...way.slice(1, -1).reverse()];

/**
 * An animated WebP that goes there and back for ever.
 * @param {HTMLCanvasElement[]} way
 */
async function animation(way) {
  const parts = await Promise.all(way.map(async (canvas) => {
    /** @type {Blob | null} */
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/webp", QUALITY));
    if (!blob) throw new Error("The film could not be written.");
    return new Uint8Array(await blob.arrayBuffer());
  }));
  return new Blob([animatedWebp(thereAndBack(parts), way[0].width, Math.round(1000 / FPS))], { type: "image/webp" });
}

/**
 * The canvases as a video, recorded as they are shown: it takes as long as the film.
 * @param {HTMLCanvasElement[]} way
 * @param {string} type
 * @returns {Promise<Blob>}
 */
async function recording(way, type) {
  const screen = make("canvas", { width: way[0].width, height: way[0].height }), context = screen.getContext("2d", { alpha: false });
  context?.drawImage(way[0], 0, 0); // a canvas that shows nothing gives no stream
  const stream = screen.captureStream(0), [track] = /** @type {CanvasCaptureMediaStreamTrack[]} */ (stream.getVideoTracks());
  const recorder = new MediaRecorder(stream, { mimeType: type, videoBitsPerSecond: 8e6 });
  /** @type {Blob[]} */
  const parts = [];
  recorder.ondataavailable = ({ data }) => parts.push(data);
  const ended = new Promise((resolve, reject) => {
    recorder.onstop = resolve;
    recorder.onerror = () => reject(new Error("The browser could not record the film."));
  });
  recorder.start();
  const begun = performance.now();
  for (const [i, canvas] of thereAndBack(way).entries()) {
    context?.drawImage(canvas, 0, 0);
    track.requestFrame();
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, begun + (1000 * (i + 1)) / FPS - performance.now())));
  }
  recorder.stop();
  await ended;
  return new Blob(parts, { type: type.split(";")[0] });
}

/**
 * WebP files of one picture each as one that moves (RIFF with the chunks VP8X, ANIM and, for each frame, ANMF).
 * @param {Uint8Array[]} pictures
 * @param {number} side Pixels.
 * @param {number} milliseconds Of each frame.
 */
export function animatedWebp(pictures, side, milliseconds) {
  const whole = chunk("VP8X", [0x02, 0, 0, 0, ...little(side - 1, 3), ...little(side - 1, 3)]); // 2: it moves
  const loop = chunk("ANIM", [255, 255, 255, 255, 0, 0]); // no colour behind it matters; 0 times: for ever
  const frame = [...little(0, 3), ...little(0, 3), ...little(side - 1, 3), ...little(side - 1, 3), ...little(milliseconds, 3), 0x02];
  const made = new Map([...new Set(pictures)].map((picture) => [picture, chunk("ANMF", frame, ...bitstreams(picture))]));
  const content = [whole, loop, ...pictures.map((picture) => made.get(picture) ?? new Uint8Array())];
  const size = 4 + content.reduce((sum, { length }) => sum + length, 0);
  return joined([ascii("RIFF"), Uint8Array.from(little(size, 4)), ascii("WEBP"), ...content]);
}

/**
 * The chunks of a WebP file that hold its picture.
 * @param {Uint8Array} file
 */
function bitstreams(file) {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength), found = [];
  for (let at = 12; at + 8 <= file.length; ) {
    const name = String.fromCharCode(...file.subarray(at, at + 4)), length = view.getUint32(at + 4, true), next = at + 8 + length + (length % 2);
    if (["VP8 ", "VP8L", "ALPH"].includes(name)) found.push(file.subarray(at, next));
    at = next;
  }
  return found;
}

/**
 * A chunk of RIFF, of an even length.
 * @param {string} name
 * @param {number[]} head
 * @param {Uint8Array[]} rest
 */
function chunk(name, head, ...rest) {
  const length = head.length + rest.reduce((sum, each) => sum + each.length, 0);
  return joined([ascii(name), Uint8Array.from(little(length, 4)), Uint8Array.from(head), ...rest, new Uint8Array(length % 2)]);
}

/** @param {string} text */
const ascii = (text) => Uint8Array.from(text, (letter) => letter.charCodeAt(0));

/**
 * The bytes of a number, the lowest first.
 * @param {number} value
 * @param {number} bytes
 */
const little = (value, bytes) => Array.from({ length: bytes }, (_, i) => Math.floor(value / 256 ** i) % 256);

/** @param {Uint8Array[]} parts */
function joined(parts) {
  const out = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
