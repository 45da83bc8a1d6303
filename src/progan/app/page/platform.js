/** What leaves the page: files and links. In our Android app (app/android) the app takes them. */

/**
 * @typedef {object} AndroidApp What `Pictures.java` offers.
 * @property {(name: string) => boolean} begin Begins a file; false if there is no room.
 * @property {(base64: string) => boolean} write Appends to it.
 * @property {() => void} save What comes of it is told later: `whenTold`.
 * @property {() => void} share
 */

/** True in the app, where every file is on the device already; also in a worker, which the app's own object is not in. */
export const inApp = globalThis.location?.hostname === "appassets.androidplatform.net";

/**
 * Saves a file where the browser saves what it downloads.
 * @param {Blob} blob
 * @param {string} name
 * @returns {Promise<string>} What happened, in words.
 */
export async function save(blob, name) {
  if (inApp) return handOver(blob, name, "save");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  return "Saved.";
}

/**
 * Shares a link by the system's own dialog, or copies it. The app shares the picture: a link into it opens nowhere else.
 * @param {string} url
 * @param {string} title
 * @param {() => Promise<{png: Blob, name: string}>} picture
 * @returns {Promise<string>} What happened, in words.
 */
export async function share(url, title, picture) {
  if (inApp) {
    const { png, name } = await picture();
    return handOver(png, name, "share");
  }
  if (navigator.share && matchMedia("(pointer: coarse)").matches) {
    try {
      await navigator.share({ url, title });
      return "";
    } catch (error) {
      if (error instanceof DOMException && error.name === "AbortError") return "";
    }
  }
  try {
    await navigator.clipboard.writeText(url);
    return "Link copied.";
  } catch {
    return "The link is in the address bar: copy it from there.";
  }
}

/**
 * Gives the app a file, in pieces that need little memory.
 * @param {Blob} blob
 * @param {string} name
 * @param {"save" | "share"} action
 * @returns {Promise<string>} Nothing: the app will say it.
 */
async function handOver(blob, name, action) {
  /** @type {AndroidApp} */
  const app = /** @type {any} */ (globalThis).androidApp;
  const bytes = new Uint8Array(await blob.arrayBuffer()), size = 2 ** 15;
  let room = app.begin(name);
  for (let at = 0; room && at < bytes.length; at += size) {
    room = app.write(btoa(String.fromCharCode(...bytes.subarray(at, at + size))));
  }
  if (!room) throw new Error("This device has no room for the picture.");
  app[action]();
  return "";
}

/**
 * Sentences from the app: what came of saving, for example.
 * @param {(sentence: string) => void} say
 */
export function whenTold(say) {
  if (inApp) addEventListener("message", ({ data }) => say(String(data)));
}
