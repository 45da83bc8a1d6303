/** Pictures as PNG files that say where they come from, as those of `progan sample` do. */

/** @type {Uint32Array} */
const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
  return n;
});

/** @param {Uint8Array} bytes */
function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = (crc >>> 8) ^ TABLE[(crc ^ byte) & 255];
  return (crc ^ 0xffffffff) >>> 0;
}

/**
 * Where pictures come from, as text fields.
 * @param {import("./engine.js").Facts} facts
 * @param {number} resolution
 * @param {string} seed
 * @returns {Record<string, string>}
 */
export function origin(facts, resolution, seed) {
  const snapshot = facts.models.find((model) => model.resolution === resolution)?.snapshot ?? "";
  const fields = { seed, snapshot, Software: `progan ${facts.progan}` };
  return facts.licence ? { ...fields, Copyright: facts.licence } : fields;
}

/**
 * A canvas as a PNG with text fields: tEXt where the letters are those of Latin-1, iTXt in UTF-8 otherwise.
 * @param {HTMLCanvasElement} canvas
 * @param {Record<string, string>} fields
 * @returns {Promise<Blob>}
 */
export async function toPng(canvas, fields) {
  /** @type {Blob | null} */
  const plain = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  if (!plain) throw new Error("The picture could not be written.");
  const bytes = new Uint8Array(await plain.arrayBuffer()), head = 33; // signature and IHDR
  const chunks = Object.entries(fields).map(([key, value]) => {
    const latin = /^[\0-\xff]*$/.test(value);
    // Of iTXt: not compressed, and neither language nor translated keyword.
    const text = latin ? Uint8Array.from(`${key}\0${value}`, (letter) => letter.charCodeAt(0)) : new TextEncoder().encode(`${key}\0\0\0\0\0${value}`);
    const chunk = new Uint8Array(12 + text.length), view = new DataView(chunk.buffer);
    view.setUint32(0, text.length);
    chunk.set([latin ? 0x74 : 0x69, latin ? 0x45 : 0x54, 0x58, 0x74], 4);
    chunk.set(text, 8);
    view.setUint32(8 + text.length, crc32(chunk.subarray(4, 8 + text.length)));
    return chunk;
  });
  return new Blob([bytes.subarray(0, head), ...chunks, bytes.subarray(head)], { type: "image/png" });
}
