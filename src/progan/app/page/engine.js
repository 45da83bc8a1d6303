/**
 * What makes pictures. The page knows this interface only; `device.js` makes them on the device that shows the page,
 * `server/engine.js` asks the server of `progan app`.
 *
 * @typedef {object} Wish What a picture is, all of it: equal wishes give equal pixels.
 * @property {string} seed Whole number from 0 to 2⁶³-1, in digits.
 * @property {string} to Seed that it is on the way to; empty for none: the latent stays.
 * @property {string} toLabel Label that it is on the way to; empty for none. Attributes that it does not name stay.
 * @property {number} t How far, 0…1: latents along great circles, labels along straight lines.
 * @property {number} truncation 1: as trained; below: less variety.
 * @property {number} resolution Pixels of a side.
 * @property {string} label Class, or attributes such as `hat=cap,glasses=none`; empty for none.
 * @property {number} row Row of the data's attributes that the label is put into.
 *
 * @typedef {object} Picture
 * @property {ImageData} pixels
 * @property {number} seconds Time that it took to make.
 *
 * @typedef {object} Labels
 * @property {"class" | "attributes"} kind
 * @property {string[]} names
 * @property {number[][]} rows Of attributes: labels of some images of the data.
 *
 * @typedef {object} Model
 * @property {number} resolution
 * @property {string} file
 * @property {number} bytes
 * @property {string} sha256
 * @property {number} kimg Thousands of real images seen in training.
 * @property {string} snapshot
 *
 * @typedef {object} Runtime
 * @property {string} module
 * @property {string} binary
 * @property {number} bytes
 * @property {string} sha256
 *
 * @typedef {object} Facts What `progan.json` says.
 * @property {number} version
 * @property {string} progan
 * @property {string} title
 * @property {string} data
 * @property {string} licence
 * @property {string} snapshot
 * @property {number} z_dim
 * @property {number} channels
 * @property {"fp32" | "fp16"} weights
 * @property {Labels | null} labels
 * @property {Model[]} models The smallest resolution first.
 * @property {{version: string, wasm: Runtime, webgpu: Runtime | null} | null} runtime Null where a server makes the pictures.
 * @property {Server} [server]
 *
 * @typedef {object} Server What a server knows besides a generator.
 * @property {string} run Name of the run or snapshot that is shown; empty if there is none.
 * @property {{name: string, live: boolean}[]} runs The newest first; `live` is being trained.
 * @property {string[] | null} comparisons Null where they are not shown.
 * @property {string} folder Where runs are looked for.
 * @property {boolean} training There is a run folder, whose training can be followed; false for a snapshot alone.
 * @property {boolean} data The run's images may be shown.
 * @property {boolean} mp4 It can make MP4 films.
 * @property {boolean} change This page has the token: it may stop a training and search.
 * @property {string[]} unread Sentences on what cannot be shown.
 *
 * @typedef {(done: number, total: number) => void} Progress Bytes so far, and of all.
 *
 * @typedef {object} Engine
 * @property {(wish: Wish, progress?: Progress) => Promise<Picture>} draw Rejects with an Error whose message is a sentence
 *   for people.
 * @property {((progress: Progress) => Promise<boolean>) | null} store Keeps all that `draw` needs on the device; false if
 *   the device cannot. Null where there is nothing to keep.
 * @property {((use: boolean) => Promise<void>) | null} useGpu Computes by WebGPU, or no longer; null without it.
 * @property {FilmKind[]} films What the way of a wish, there and back, can be made to.
 * @property {string} lacks Which films are not there, and why, for people; empty if none is missing.
 *
 * @typedef {object} FilmKind
 * @property {string} suffix `webp`, `mp4` or `webm`.
 * @property {(wish: Wish, progress: Progress) => Promise<Blob>} make `progress` counts frames, where that is known.
 */

/**
 * The description of the page's generators.
 * @returns {Promise<Facts>}
 */
export async function readFacts() {
  const run = new URLSearchParams(location.search).get("run"); // where there are several
  let response = await fetch(`progan.json${location.search}`);
  const gone = response.status === 404 && run;
  if (gone) response = await fetch("progan.json"); // the newest, and the list of those that there are
  if (!response.ok) throw new Error(await reason(response, "progan.json is missing beside this page. Export it again."));
  const facts = await response.json();
  if (facts.format !== "progan web" || facts.version !== 1) throw new Error("This page and its progan.json do not fit.");
  if (gone) facts.server?.unread.push(`There is no run ${run} here.`);
  return facts;
}

/**
 * Why a server refused, for people: its own sentence, if it has one.
 * @param {Response} response
 * @param {string} otherwise
 */
export async function reason(response, otherwise) {
  try {
    const { error } = await response.json();
    return `${error[0].toUpperCase()}${error.slice(1)}.`;
  } catch {
    return otherwise;
  }
}
