/** Wishes as links and as words. */

/**
 * @typedef {import("./engine.js").Facts} Facts
 * @typedef {import("./engine.js").Wish} Wish
 */

const MOST_SEED = 2n ** 63n - 1n;
/** What a seed is, for people who typed something else. */
export const SEEDS = `A seed is a whole number from 0 to ${MOST_SEED.toLocaleString("en")}.`;
/** Pictures at once: squares. */
export const COUNTS = [1, 4, 9, 16];

/**
 * A seed that people typed, in plain digits; null if it is none.
 * @param {string} text
 */
export function parseSeed(text) {
  const digits = text.trim();
  if (!/^\d{1,19}$/.test(digits)) return null;
  const seed = BigInt(digits);
  return seed <= MOST_SEED ? String(seed) : null;
}

/**
 * The seed that is `step` further, held inside the range.
 * @param {string} seed
 * @param {number} step
 */
export function stepSeed(seed, step) {
  const next = BigInt(seed) + BigInt(step);
  return String(next < 0n ? 0n : next > MOST_SEED ? MOST_SEED : next);
}

/** What a wish has that is on no way to another picture. */
export const NOWHERE = { to: "", toLabel: "", t: 0 };

/**
 * True for a picture on the way from one to another, by its seed or its label.
 * @param {Wish} wish
 */
export const moves = (wish) => wish.to !== "" || wish.toLabel !== "";

/**
 * The class of a picture for which none was chosen, classes in turn; empty where there are none.
 * @param {Facts} facts
 * @param {string} seed
 */
export function classInTurn({ labels }, seed) {
  return labels?.kind === "class" ? labels.names[Number(BigInt(seed) % BigInt(labels.names.length))] : "";
}

/** A seed by chance: short enough to be told. */
export const anySeed = () => String(crypto.getRandomValues(new Uint32Array(1))[0] % 1_000_000);

/**
 * @param {Facts} facts
 * @returns {Wish}
 */
export function firstWish(facts) {
  const resolution = facts.models[facts.models.length - 1].resolution;
  return { ...NOWHERE, seed: "0", truncation: 1, resolution, label: "", row: 0 };
}

/**
 * What of a wish can be made here: a link may come from anywhere.
 * @param {Facts} facts
 * @param {Partial<Record<keyof Wish, unknown>>} given
 * @returns {Wish}
 */
export function checked(facts, given) {
  const wish = firstWish(facts);
  wish.seed = parseSeed(String(given.seed ?? "")) ?? wish.seed;
  wish.to = parseSeed(String(given.to ?? "")) ?? "";
  wish.t = within(given.t, 0, 1, 0);
  wish.truncation = within(given.truncation, 0, 2, 1);
  const size = Number(given.resolution);
  if (facts.models.some((model) => model.resolution === size)) wish.resolution = size;
  if (facts.labels) {
    const { kind, names, rows } = facts.labels;
    const known = (/** @type {unknown} */ given) => {
      const label = String(given ?? ""), parts = kind === "class" ? [label] : label.split(",");
      return parts.every((part) => names.includes(part)) ? label : "";
    };
    wish.label = known(given.label);
    wish.toLabel = known(given.toLabel);
    if (kind === "attributes") wish.row = Math.floor(within(given.row, 0, rows.length - 1, 0));
  }
  return wish;
}

/**
 * @param {unknown} value
 * @param {number} low
 * @param {number} high
 * @param {number} otherwise
 */
function within(value, low, high, otherwise) {
  const number = value === undefined || value === null || value === "" ? NaN : Number(value);
  return number >= low && number <= high ? number : otherwise;
}

/**
 * The part of a link after #; what is as usual is left out.
 * @param {Facts} facts
 * @param {Wish} wish
 * @param {number} [count]
 */
export function toHash(facts, wish, count = 1) {
  const words = new URLSearchParams({ seed: wish.seed, resolution: String(wish.resolution) });
  if (wish.to) words.set("to", wish.to);
  if (moves(wish)) words.set("t", String(wish.t));
  if (wish.truncation !== 1) words.set("truncation", String(wish.truncation));
  if (wish.label) words.set("label", wish.label);
  if (wish.toLabel) words.set("toLabel", wish.toLabel);
  if (wish.row) words.set("row", String(wish.row));
  if (count > 1) words.set("count", String(count));
  words.set("model", facts.snapshot);
  return `#${words}`;
}

/**
 * @param {Facts} facts
 * @param {string} hash
 * @returns {{wish: Wish, count: number, foreign: boolean}} `foreign`: the link is of another model.
 */
export function fromHash(facts, hash) {
  const words = new URLSearchParams(hash.replace(/^#/, ""));
  const count = COUNTS.find((each) => String(each) === words.get("count")) ?? 1, model = words.get("model");
  return { wish: checked(facts, Object.fromEntries(words)), count, foreign: model !== null && model !== facts.snapshot };
}

/**
 * Words for a picture, also for those who do not see it.
 * @param {Wish} wish
 */
export function inWords(wish) {
  const way = wish.to ? `from seed ${wish.seed} to ${wish.to}` : `seed ${wish.seed}`;
  const far = moves(wish) ? `, ${Math.round(100 * wish.t)} %` : "";
  const label = [wish.label, wish.toLabel && `to ${wish.toLabel}`].filter(Boolean).join(" ");
  const less = wish.truncation === 1 ? "" : `, truncation ${wish.truncation}`;
  return `${way}${far}${label && `, ${label}`}${less}`;
}

/**
 * The seeds of a picture, as its file names them.
 * @param {Wish} wish
 */
export const seedsOf = ({ seed, to }) => (to ? `${seed},${to}` : seed);

/**
 * Name of a picture's file.
 * @param {Wish} wish
 * @param {number} [count]
 */
export function fileName(wish, count = 1) {
  const far = moves(wish) ? `-${Math.round(100 * wish.t)}` : "";
  return `seed-${ends(wish.seed, wish.to)}${far}${labelled(wish)}-${wish.resolution}x${wish.resolution}${count > 1 ? `-${count}` : ""}.png`;
}

/**
 * Name of the file of a whole way.
 * @param {Wish} wish
 * @param {string} suffix
 */
export const morphName = (wish, suffix) =>
  `morph-${ends(wish.seed, wish.to)}${labelled(wish)}-${wish.resolution}x${wish.resolution}.${suffix}`;

/** @param {string[]} words */
const ends = (...words) => words.filter(Boolean).join("-");

/** @param {Wish} wish */
const labelled = (wish) => [wish.label, wish.toLabel].filter(Boolean).map((label) => `-${label.replace(/[^\w=-]+/g, "_")}`).join("");
