/** Curves as SVG, drawn anew whenever there are new points. */

/**
 * @typedef {object} Curve
 * @property {string} name
 * @property {[number, number][]} points
 */

const HEIGHT = 230, LEFT = 48, RIGHT = 10, TOP = 16, BOTTOM = 26;
const MOST_POINTS = 600; // of a curve: more than a screen shows

/**
 * Round numbers from low to high, about so many, and their texts, which have the decimals of the step: no two are alike.
 * @param {number} low
 * @param {number} high
 * @param {number} about
 * @returns {[number, string][]}
 */
export function ticks(low, high, about) {
  const rough = (high - low) / about, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5].find((each) => each * power >= rough) ?? 10);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) found.push(Number((i * step).toPrecision(12)));
  const largest = Math.max(...found.map(Math.abs)), exponent = Math.floor(Math.log10(step) + 1e-9), decimals = Math.max(0, -exponent);
  const text = (/** @type {number} */ value) =>
    value === 0 ? "0"
      : isPlain(largest) ? value.toLocaleString("en", { minimumFractionDigits: decimals, maximumFractionDigits: decimals })
      : value.toExponential(Math.floor(Math.log10(largest) + 1e-9) - exponent);
  return found.map((value) => [value, text(value)]);
}

/**
 * Whether a number is written out: others are too long for where they stand.
 * @param {number} value
 */
const isPlain = (value) => value === 0 || (Math.abs(value) >= 1e-3 && Math.abs(value) < 1e6);

/**
 * Range that holds nearly all values: a single one far away does not flatten the rest.
 * @param {number[]} values
 * @returns {[number, number]}
 */
export function range(values) {
  const sorted = values.filter(Number.isFinite).sort((a, b) => a - b), n = sorted.length;
  if (n === 0) return [0, 1];
  const low = sorted[Math.floor(0.01 * (n - 1))], high = sorted[Math.ceil(0.99 * (n - 1))];
  const pad = 0.06 * (high - low) || Math.abs(high) * 0.1 || 1;
  return [low - pad, high + pad];
}

/**
 * No more points than a screen shows, the last one among them.
 * @template T
 * @param {T[]} points
 * @param {number} [most]
 */
export function thinned(points, most = MOST_POINTS) {
  const step = Math.ceil(points.length / most);
  return points.filter((_, i) => (points.length - 1 - i) % step === 0);
}

/**
 * Three digits, and all those before the point.
 * @param {number} value
 */
export const short = (value) =>
  !isPlain(value) ? value.toExponential(1)
    : Math.abs(value) < 1000 ? String(Number(value.toPrecision(3)))
    : value.toLocaleString("en", { maximumFractionDigits: 0 });

/**
 * A number of images in thousands, to the last one.
 * @param {number} images
 */
export const thousands = (images) => (images / 1000).toLocaleString("en", { maximumFractionDigits: 3 });

/**
 * Draws curves over thousands of images.
 * @param {SVGSVGElement} svg
 * @param {Curve[]} curves
 * @param {[number, string][]} marks Where to put a line, and what to write beside it.
 * @param {string} title
 */
export function draw(svg, curves, marks, title) {
  const shown = curves.map(({ points }) => thinned(points));
  const xs = shown.flatMap((points) => points.map(([x]) => x)), ys = shown.flatMap((points) => points.map(([, y]) => y));
  const x0 = 0, x1 = Math.max(1e-3, ...xs), [y0, y1] = range(ys);
  const width = Math.min(720, Math.max(260, svg.clientWidth || 560)); // text is as large as elsewhere on the page
  const across = (/** @type {number} */ x) => LEFT + ((x - x0) / (x1 - x0)) * (width - LEFT - RIGHT);
  const down = (/** @type {number} */ y) => HEIGHT - BOTTOM - ((Math.min(y1, Math.max(y0, y)) - y0) / (y1 - y0)) * (HEIGHT - TOP - BOTTOM);
  /** @type {SVGElement[]} */
  const parts = [];
  for (const [y, text] of ticks(y0, y1, 4)) {
    parts.push(node("line", { x1: LEFT, x2: width - RIGHT, y1: down(y), y2: down(y), class: "rule" }));
    parts.push(node("text", { x: LEFT - 6, y: down(y) + 4, class: "end" }, text));
  }
  for (const [x, text] of ticks(x0, x1, width / 90)) parts.push(node("text", { x: across(x), y: HEIGHT - 8, class: "middle" }, text));
  for (const [x, words] of marks) {
    parts.push(node("line", { x1: across(x), x2: across(x), y1: TOP, y2: HEIGHT - BOTTOM, class: "mark" }));
    parts.push(node("text", { x: across(x) + 3, y: TOP - 5 }, words));
  }
  shown.forEach((points, i) => {
    /** @type {string[][]} What no missing number parts; a point by itself is drawn as a dot. */
    const pieces = [[]];
    for (const [x, y] of points) {
      if (Number.isFinite(y)) pieces[pieces.length - 1].push(`${across(x).toFixed(1)} ${down(y).toFixed(1)}`);
      else pieces.push([]);
    }
    const lines = pieces.filter(({ length }) => length > 1).map((piece) => `M${piece.join("L")}`);
    const alone = pieces.filter(({ length }) => length === 1).map(([point]) => `M${point}h0`);
    parts.push(node("path", { d: lines.join(""), class: `curve c${i % 6}` }), node("path", { d: alone.join(""), class: `curve alone c${i % 6}` }));
  });
  svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  svg.setAttribute("role", "img");
  const last = curves.map(({ name, points }) => `${name} ${points.length ? short(points[points.length - 1][1]) : "none"}`);
  svg.setAttribute("aria-label", `${title} up to ${thousands(1000 * x1)} thousand images. Last: ${last.join(", ")}`);
  svg.replaceChildren(...parts);
}

/**
 * @param {string} tag
 * @param {Record<string, string | number>} attributes
 * @param {string} [text]
 */
function node(tag, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  if (text !== undefined) made.textContent = text;
  return made;
}
