/**
 * The latent of a seed, as `progan.randomness` defines it: Philox4x32-10 (Salmon et al. 2011) and Box–Muller. Seed 7 is
 * the same picture in Python, on the command line, in the browser and on a phone.
 */

/**
 * High 32 bits of the product of two numbers of 32 bits.
 * @param {number} a
 * @param {number} b
 */
function high(a, b) {
  const a0 = a & 0xffff, a1 = a >>> 16, b0 = b & 0xffff, b1 = b >>> 16;
  const middle = a1 * b0 + ((a0 * b0) >>> 16), low = (middle & 0xffff) + a0 * b1;
  return (a1 * b1 + Math.floor(middle / 65536) + Math.floor(low / 65536)) >>> 0;
}

/**
 * Four words of 32 bits of the counter (block, 0, 0, 0).
 * @param {number} block
 * @param {number} k0 Low half of the key.
 * @param {number} k1 High half of the key.
 */
export function philox(block, k0, k1) {
  let c0 = block >>> 0, c1 = 0, c2 = 0, c3 = 0;
  for (let round = 0; round < 10; round++) {
    const high0 = high(c0, 0xd2511f53), high1 = high(c2, 0xcd9e8d57);
    const low0 = Math.imul(c0, 0xd2511f53) >>> 0, low1 = Math.imul(c2, 0xcd9e8d57) >>> 0;
    [c0, c1, c2, c3] = [(high1 ^ c1 ^ k0) >>> 0, low1, (high0 ^ c3 ^ k1) >>> 0, low0];
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  return [c0, c1, c2, c3];
}

/**
 * The latent of a seed, N(0, 1).
 * @param {string | number | bigint} seed 0 … 2⁶⁴-1
 * @param {number} size
 * @returns {Float32Array}
 */
export function latent(seed, size) {
  const key = BigInt(seed), out = new Float32Array(size);
  const k0 = Number(key & 0xffffffffn), k1 = Number((key >> 32n) & 0xffffffffn);
  for (let i = 0; i < size; i += 4) {
    const u = philox(i / 4, k0, k1).map((word) => (word + 0.5) / 2 ** 32);
    for (let j = 0; j < 4 && i + j < size; j++) {
      const pair = j & 2, radius = Math.sqrt(-2 * Math.log(u[pair])), angle = 2 * Math.PI * u[pair + 1];
      out[i + j] = radius * (j & 1 ? Math.sin(angle) : Math.cos(angle));
    }
  }
  return out;
}

/**
 * Along the great circle from a (t = 0) to b (t = 1), lengths in between, as `progan.sampling.interpolation`.
 * @param {Float32Array} a
 * @param {Float32Array} b
 * @param {number} t
 */
export function slerp(a, b, t) {
  let dot = 0, aa = 0, bb = 0;
  for (let i = 0; i < a.length; i++) {
    dot += a[i] * b[i];
    aa += a[i] * a[i];
    bb += b[i] * b[i];
  }
  const angle = Math.acos(Math.min(1, Math.max(-1, dot / Math.sqrt(aa * bb)))), sine = Math.sin(angle);
  const [p, q] = sine < 1e-6 ? [1 - t, t] : [Math.sin((1 - t) * angle) / sine, Math.sin(t * angle) / sine];
  return a.map((value, i) => p * value + q * b[i]);
}

/**
 * The label row of a picture, as `Snapshot.labels` makes it.
 * @param {import("./engine.js").Labels} labels
 * @param {string} text A class, or attributes such as `hat=cap,glasses=none`.
 * @param {number} row
 * @returns {Float32Array}
 */
export function labelRow(labels, text, row) {
  const names = labels.names;
  if (labels.kind === "class") {
    const out = new Float32Array(names.length);
    out[Math.max(0, names.indexOf(text))] = 1;
    return out;
  }
  const out = Float32Array.from(labels.rows[row % labels.rows.length]);
  for (const value of text.split(",").filter((each) => names.includes(each))) {
    const attribute = value.split("=")[0];
    names.forEach((name, i) => {
      if (name.startsWith(`${attribute}=`)) out[i] = 0;
    });
    out[names.indexOf(value)] = 1;
  }
  return out;
}

/**
 * The label row of a wish: at t between that of its label and that of the one that it is on the way to.
 * @param {import("./engine.js").Labels} labels
 * @param {import("./engine.js").Wish} wish
 */
export function labelRowOf(labels, { label, toLabel, t, row }) {
  const start = labelRow(labels, label, row);
  if (toLabel === "") return start;
  // An attribute that the end does not name is that of the start.
  const end = labelRow(labels, labels.kind === "class" ? toLabel : `${label},${toLabel}`, row);
  return start.map((value, i) => value + t * (end[i] - value));
}
