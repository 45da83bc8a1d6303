/** The page: what the user asks for, and the pictures. */

import { openDevice } from "./device.js";
import { forgetOthers } from "./download.js";
import { button, chips, element, input, make, paint } from "./dom.js";
import { readFacts } from "./engine.js";
import { favourites } from "./favourites.js";
import { labelSelects } from "./labels.js";
import { morph } from "./morph.js";
import { inApp, save, share, whenTold } from "./platform.js";
import { origin, toPng } from "./png.js";
import { tabs } from "./tabs.js";
import { anySeed, classInTurn, COUNTS, fileName, fromHash, inWords, moves, NOWHERE, parseSeed, SEEDS, seedsOf, stepSeed, toHash } from "./wish.js";

/**
 * @typedef {import("./engine.js").Engine} Engine
 * @typedef {import("./engine.js").Facts} Facts
 * @typedef {import("./engine.js").Picture} Picture
 * @typedef {import("./engine.js").Wish} Wish
 * @typedef {import("./tabs.js").Panel} Panel
 *
 * @typedef {object} App What the parts of the page share.
 * @property {Facts} facts
 * @property {{wish: Wish, count: number}} state
 * @property {() => number} turn Begins something new: what was being drawn before is given up.
 * @property {(wish: Wish, turn: number) => Promise<Picture | null>} draw Null if given up, or not possible; it says why.
 * @property {(text: string, stays?: boolean) => void} say Shows and reads out a sentence.
 * @property {(wish: Wish) => void} open Shows a picture by itself.
 */

const status = element("status", HTMLParagraphElement);
const bar = element("bar", HTMLProgressElement);

let fading = 0;
/** True once there is a service worker, which keeps the page itself. */
let registered = Promise.resolve(false);

/**
 * Shows a sentence, for a while or until the next one.
 * @param {string} text
 * @param {boolean} [stays]
 */
function say(text, stays = false) {
  clearTimeout(fading);
  fading = 0;
  status.textContent = text;
  element("news", HTMLDivElement).classList.toggle("quiet", text === "");
  if (text && !stays) fading = setTimeout(() => say(""), 5000);
}

/** @param {unknown} error */
function sayError(error) {
  bar.hidden = true;
  button("again").hidden = false;
  say(error instanceof Error ? error.message : String(error), true);
}

/**
 * @param {string} title
 * @returns {import("./engine.js").Progress}
 */
const progress = (title) => (done, total) => {
  bar.hidden = done >= total;
  bar.max = total;
  bar.value = done;
  say(done >= total ? "Starting …" : `${title}: ${(done / 1e6).toFixed(1)} of ${(total / 1e6).toFixed(1)} MB`, true);
};

/**
 * @param {Facts} facts
 * @param {Engine} engine
 * @param {Record<string, Panel>} more Panels besides those of every page.
 */
function begin(facts, engine, more) {
  const first = fromHash(facts, location.hash);
  const state = { wish: first.wish, count: first.count };
  const stage = element("stage", HTMLDivElement), caption = element("caption", HTMLParagraphElement);
  const keep = button("keep"), seed = input("seed"), truncation = input("truncation");
  let turns = 0, drawn = false, { foreign } = first;
  let whole = false; // all pictures of the state are on the canvases
  /** @type {Promise<unknown>} Pictures wait for each other: one that was given up meanwhile is never asked for. */
  let last = Promise.resolve();

  /** @type {App["draw"]} */
  const draw = async (wish, turn) => {
    if (turn !== turns) return null;
    try {
      const picture = await engine.draw(wish, progress("Fetching the generator"));
      // An error or a download is over; what was said to the user stays for its time.
      if (!button("again").hidden || status.textContent === "Starting …") say("");
      button("again").hidden = true;
      return turn === turns ? picture : null;
    } catch (error) {
      if (turn === turns) sayError(error);
      return null;
    }
  };
  /** @type {App} */
  const app = {
    facts,
    state,
    say,
    turn: () => ++turns,
    draw(wish, turn) {
      const picture = last.then(() => draw(wish, turn));
      last = picture;
      return picture;
    },
    open(wish) {
      Object.assign(state, { wish: { ...wish }, count: 1 });
      shown.select("make");
      void show();
      keep.focus({ preventScroll: true }); // what was pressed is gone
    },
  };
  const kept = favourites(app), way = morph(app, engine);

  /** The wish of a picture of the grid: seeds, and rows of the data's attributes, in turn, as `progan sample` has them. */
  const wishAt = (/** @type {number} */ i) => {
    const wish = { ...state.wish, seed: stepSeed(state.wish.seed, i) };
    wish.label ||= classInTurn(facts, wish.seed);
    if (facts.labels?.kind === "attributes") wish.row = (state.wish.row + i) % facts.labels.rows.length;
    return wish;
  };

  /** Shows the state in all controls, in the address, and draws its pictures one after the other. */
  async function show() {
    const turn = app.turn(), { count } = state, wish = wishAt(0);
    whole = false;
    showControls();
    try {
      history.replaceState(null, "", toHash(facts, state.wish, count));
    } catch {
      // Safari refuses more than a hundred within 30 seconds, as of a slider: the next picture's will do.
    }
    if (stage.childElementCount !== count) {
      const cells = Array.from({ length: count }, (_, i) => {
        const canvas = make("canvas", { width: 1, height: 1 });
        if (count === 1) {
          canvas.setAttribute("role", "img");
          return canvas;
        }
        const cell = make("button", { className: "picture", type: "button" }, [canvas]);
        cell.addEventListener("click", () => app.open(wishAt(i)));
        return cell;
      });
      stage.replaceChildren(...cells);
      stage.dataset.columns = String(Math.sqrt(count));
    }
    let seconds = 0;
    for (let i = 0; i < count; i++) {
      const cell = stage.children[i], canvas = cell instanceof HTMLCanvasElement ? cell : cell.querySelector("canvas");
      const each = wishAt(i);
      cell.setAttribute("aria-label", count === 1 ? `Picture: ${inWords(each)}` : `Open: ${inWords(each)}`);
      const picture = await app.draw(each, turn);
      if (!picture || !canvas) return;
      paint(canvas, picture.pixels);
      seconds += picture.seconds;
      const time = `${(seconds / (i + 1)).toFixed(2)} s${count > 1 ? " each" : ""}`;
      caption.textContent = `${count > 1 ? `seeds ${wish.seed} to ${each.seed}` : inWords(wish)} · ${time}`;
    }
    whole = true;
    stage.dataset.drawn = location.hash;
    stage.dataset.milliseconds = ((1000 * seconds) / count).toFixed(1);
    if (foreign) say("This link was made with another version of the generator: the picture may be another one.");
    foreign = false;
    if (!drawn) {
      drawn = true;
      void storeAll();
    }
  }

  // Controls.
  const showSize = chips(element("sizes", HTMLDivElement), "size",
    facts.models.map(({ resolution }) => ({ value: String(resolution), text: String(resolution) })),
    (value) => change({ resolution: Number(value) }));
  const showCount = chips(element("counts", HTMLDivElement), "count",
    COUNTS.map((n) => ({ value: String(n), text: String(n) })),
    (value) => {
      state.count = Number(value);
      void show();
    });
  const none = facts.labels?.kind === "class" ? "all in turn" : "as in the data";
  const labels = labelSelects(facts.labels, none, () => change({ label: labels.value() }));
  element("labels", HTMLDivElement).append(...labels.titles.map((title, i) =>
    make("label", { className: "field" }, [make("span", { textContent: title }), labels.selects[i]])));

  function showControls() {
    const { wish, count } = state;
    showSize(String(wish.resolution));
    showCount(String(count));
    labels.show(wish.label);
    seed.value = wish.seed;
    truncation.value = String(wish.truncation);
    element("truncation-shown", HTMLOutputElement).value = wish.truncation.toFixed(2);
    keep.disabled = button("share-link").disabled = false;
    keep.hidden = button("to-morph").hidden = count > 1;
    const has = count === 1 && kept.has(wishAt(0));
    keep.setAttribute("aria-pressed", String(has));
    element("keep-word", HTMLSpanElement).textContent = has ? "Kept" : "Keep";
    button("new").textContent = count > 1 ? "New pictures" : "New picture";
  }

  /** @param {Partial<Wish>} changes */
  function change(changes) {
    Object.assign(state.wish, changes);
    void show();
  }
  const rows = facts.labels?.kind === "attributes" ? facts.labels.rows.length : 1;
  const another = () => change({ ...NOWHERE, seed: anySeed(), row: Math.floor(Math.random() * rows) });
  const step = (/** @type {number} */ by) => {
    const further = by * state.count, row = (((state.wish.row + further) % rows) + rows) % rows;
    change({ ...NOWHERE, seed: stepSeed(state.wish.seed, further), row });
  };
  const toggle = () => {
    if (state.count > 1) return;
    kept.toggle(wishAt(0));
    showControls();
  };
  const picture = async () => {
    if (!whole) throw new Error("The picture is not made yet: save it when it is there.");
    const side = state.wish.resolution, across = Math.sqrt(state.count);
    const sheet = make("canvas", { width: side * across, height: side * across });
    stage.querySelectorAll("canvas").forEach((canvas, i) => {
      sheet.getContext("2d")?.drawImage(canvas, (i % across) * side, Math.floor(i / across) * side);
    });
    const seeds = Array.from({ length: state.count }, (_, i) => seedsOf(wishAt(i))).join(",");
    const name = fileName(wishAt(0), state.count); // before the user goes on
    return { png: await toPng(sheet, origin(facts, side, seeds)), name };
  };
  const saveShown = () => picture().then(({ png, name }) => save(png, name)).then(say, sayError);
  const shareShown = () => {
    const wish = state.count > 1 ? state.wish : wishAt(0);
    return share(new URL(toHash(facts, wish, state.count), location.href).href, facts.title, picture).then(say, sayError);
  };

  button("new").addEventListener("click", another);
  button("before").addEventListener("click", () => step(-1));
  button("after").addEventListener("click", () => step(1));
  keep.addEventListener("click", toggle);
  button("save").addEventListener("click", saveShown);
  button("share-link").addEventListener("click", shareShown);
  button("to-morph").addEventListener("click", () => {
    if (!moves(state.wish)) way.endAt(wishAt(0));
    shown.show("morph");
  });
  /** Shows a panel. Only those that draw say that they start: their first picture takes it back. */
  const start = (/** @type {string} */ name) => {
    say(isPanel(more, name) ? "" : "Starting …", true);
    shown.show(name);
  };
  button("again").addEventListener("click", () => start(shown.current()));
  seed.addEventListener("change", () => {
    const value = parseSeed(seed.value);
    if (value === null) say(SEEDS);
    change({ ...NOWHERE, seed: value ?? state.wish.seed, row: 0 });
  });
  truncation.addEventListener("input", () => change({ truncation: Number(truncation.value) }));
  addEventListener("hashchange", () => {
    const name = location.hash.slice(1);
    if (isPanel(more, name)) return shown.show(name);
    const link = fromHash(facts, location.hash);
    Object.assign(state, { wish: link.wish, count: link.count });
    foreign = link.foreign;
    shown.select("make");
    void show();
  });
  addEventListener("keydown", (event) => {
    const { target } = event;
    const typing = target instanceof HTMLInputElement || target instanceof HTMLSelectElement;
    const tab = target instanceof HTMLElement && target.getAttribute("role") === "tab";
    if (typing || tab || event.ctrlKey || event.metaKey || event.altKey || element("make", HTMLElement).hidden) return;
    const action = { n: another, ArrowLeft: () => step(-1), ArrowRight: () => step(1), f: toggle, s: saveShown }[event.key];
    if (action) {
      event.preventDefault();
      void action();
    }
  });

  const shown = tabs({ make: { show }, morph: way, favourites: kept, ...more }, () => {
    if (fading) say(""); // what was said of another panel
  });

  // Keep all that is needed for without a network, after the first picture and unless the user saves data.
  const offline = element("offline", HTMLParagraphElement);
  async function storeAll() {
    const connection = /** @type {any} */ (navigator).connection;
    if (!engine.store || connection?.saveData) return;
    const used = [facts.runtime?.wasm, facts.runtime?.webgpu].flatMap((each) => (each ? [each.binary] : []));
    await forgetOthers([...used, ...facts.models.map(({ file }) => file)]);
    try {
      const all = await engine.store((done, total) => {
        offline.textContent = `Getting ready for use without a network: ${Math.floor((100 * done) / total)} %`;
      });
      if (await registered) await navigator.serviceWorker.ready; // which would never be, otherwise
      offline.textContent = !all ? "This device has no room to keep the page."
        : (await registered) ? "Ready for use without a network." : "This browser does not keep the page: it needs a network.";
    } catch {
      offline.textContent = "Not yet ready for use without a network.";
    }
  }

  if (engine.useGpu) {
    const gpu = input("gpu");
    element("gpu-row", HTMLLabelElement).hidden = false;
    gpu.addEventListener("change", async () => {
      await engine.useGpu?.(gpu.checked);
      void show();
    });
  }
  describe(facts);
  start(firstPanel(facts, more) || "make");
}

/**
 * True for the name of a panel. An address may name anything, such as what every object has.
 * @param {Record<string, Panel>} panels
 * @param {string} name
 */
const isPanel = (panels, name) => Object.keys(panels).includes(name);

/**
 * The panel that the address names, or that of a training that is going on; empty for the first.
 * @param {Facts} facts
 * @param {Record<string, Panel>} more
 */
function firstPanel(facts, more) {
  const name = location.hash.slice(1), run = facts.server?.runs.find((each) => each.name === facts.server?.run);
  return isPanel(more, name) ? name : run?.live && !name ? "training" : "";
}

/** @param {Facts} facts */
function describe(facts) {
  document.title = facts.title;
  element("title", HTMLHeadingElement).textContent = facts.title;
  if (facts.server) element("made", HTMLSpanElement).textContent = "A Progressive GAN makes these pictures, on the computer that progan runs on.";
  const last = facts.models[facts.models.length - 1];
  const rows = [
    ["Trained on", facts.data || "unknown"],
    ["Seen in training", `${(last.kimg * 1000).toLocaleString("en")} pictures`],
    ["Licence of the generator", facts.licence || "unknown"],
    ["Snapshot", facts.snapshot],
    ["Made with", facts.runtime ? `progan ${facts.progan}, onnxruntime-web ${facts.runtime.version}` : `progan ${facts.progan}`],
  ];
  element("facts", HTMLDListElement).append(...rows.flatMap(([name, value]) => [make("dt", { textContent: name }), make("dd", { textContent: value })]));
}

/** Registers the service worker, and offers a newer version of the page when there is one; false where there is none. */
async function register() {
  if (!("serviceWorker" in navigator) || inApp) return false;
  // shell.js, which changes with every version, is not to come out of the browser's cache.
  const registration = await navigator.serviceWorker.register("sw.js", { updateViaCache: "none" }), update = button("update");
  const offer = () => {
    if (registration.waiting && navigator.serviceWorker.controller) update.hidden = false;
  };
  offer();
  registration.addEventListener("updatefound", () => registration.installing?.addEventListener("statechange", offer));
  update.addEventListener("click", () => {
    navigator.serviceWorker.addEventListener("controllerchange", () => location.reload());
    registration.waiting?.postMessage("take over");
  });
  return true;
}

/** Offers to install the page, where the browser says that it can be. */
function offerInstall() {
  const install = button("install");
  addEventListener("beforeinstallprompt", (event) => {
    event.preventDefault();
    install.hidden = false;
    install.onclick = () => {
      install.hidden = true;
      /** @type {any} */ (event).prompt();
    };
  });
}

/**
 * The page of a server that has no generator yet.
 * @param {Facts} facts
 * @param {Record<string, Panel>} more
 */
function withoutPictures(facts, more) {
  document.title = element("title", HTMLHeadingElement).textContent = facts.title;
  for (const name of ["make", "morph", "favourites"]) button(`tab-${name}`).hidden = true;
  element("make", HTMLElement).hidden = true;
  document.querySelector("footer")?.remove();
  say("");
  tabs(more, () => {}).show(firstPanel(facts, more) || Object.keys(more)[0]);
}

try {
  const facts = await readFacts();
  if (facts.server) {
    // A link and a reload show this run, also once a newer one has begun.
    if (facts.server.runs.length > 0) history.replaceState(null, "", `?${new URLSearchParams({ run: facts.server.run })}${location.hash}`);
    const { openServer } = await import("./server/engine.js"), { panels } = await import("./server/panels.js");
    const more = panels(facts, say);
    if (facts.models.length > 0) begin(facts, openServer(facts), more);
    else withoutPictures(facts, more);
  } else {
    offerInstall();
    whenTold(say);
    registered = register().catch(() => false); // without one the page works, but not without a network
    begin(facts, await openDevice(facts), {});
  }
} catch (error) {
  sayError(error);
  button("again").hidden = true;
}
