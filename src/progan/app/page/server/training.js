/** A training as it comes: stage, time left, sample grids and losses; and a button that stops it, all saved. */

import { button, element, input, make } from "../dom.js";
import { draw, short, thousands } from "./chart.js";
import { ask } from "./engine.js";

/**
 * @typedef {Record<string, any> & {cur_nimg: number, resolution: number}} Line A line of stats.jsonl.
 *
 * @typedef {object} State What the server says besides lines.
 * @property {boolean} live
 * @property {boolean} asked It has been asked to stop.
 * @property {boolean} finished
 * @property {number} cur_nimg
 * @property {number} total
 * @property {[number, string, number, number][]} spans Resolution, phase, first and last image of each stage.
 * @property {number} resolution
 * @property {string} phase
 * @property {number} alpha
 * @property {number | null} left Seconds.
 * @property {boolean} pictures There is a snapshot to make some with.
 * @property {boolean} report The run has a page of its own.
 * @property {string[]} grids
 */

const HTML = `
  <div class="now">
    <p id="training-state" class="state" role="status">Waiting for the first numbers …</p>
    <div id="training-stages" class="stages" role="img"></div>
    <p id="training-notice" class="hint notice" hidden></p>
    <div class="actions">
      <button id="training-stop" type="button" hidden>Stop and save</button>
      <button id="training-make" type="button" hidden>Make pictures</button>
      <a id="training-report" class="like-button" target="_blank" rel="noopener" hidden>Report of this run</a>
    </div>
  </div>
  <div class="progress-and-charts">
    <figure class="grid-now">
      <div class="stage wide-stage"><img id="training-grid" alt="Samples" hidden></div>
      <input id="training-moment" class="wide" type="range" min="0" value="0" aria-label="Moment of the training" hidden>
      <figcaption id="training-caption" class="caption"></figcaption>
    </figure>
    <div id="training-charts" class="charts"></div>
  </div>`;

/** @type {Record<string, string>} Numbers of stats.jsonl whose names are not those of losses. */
const NAMES = {
  "D/labels": "discriminator", "G/labels": "generator", img_per_sec: "now", "metrics/G_ema/swd": "generated", "metrics/floor/swd": "other real images",
};

/**
 * @param {import("./panels.js").Given} given
 * @param {HTMLElement} place
 * @returns {import("../tabs.js").Panel}
 */
export function trainingPanel({ facts, server, say }, place) {
  place.innerHTML = HTML;
  const run = new URLSearchParams({ run: server.run }), image = element("training-grid", HTMLImageElement);
  const caption = element("training-caption", HTMLElement), report = element("training-report", HTMLAnchorElement);
  const moment = input("training-moment"), stop = button("training-stop"), pictures = button("training-make");
  report.href = `api/page/report?${run}`;
  /** @type {Line[]} */
  let lines = [];
  /** @type {State | null} */
  let state = null;
  /** @type {EventSource | null} */
  let source = null;
  let looked = ""; // name of the grid that is looked at; empty for the newest
  let drawing = 0, shown = false, waiting = 0;

  const showGrid = () => {
    const grids = state?.grids ?? [];
    moment.hidden = grids.length < 2;
    image.hidden = grids.length === 0;
    if (grids.length === 0) {
      caption.textContent = state?.live ? "The first samples come soon." : "There are no samples of this run.";
      return;
    }
    moment.max = String(grids.length - 1);
    // A training deletes some of its grids as it goes: then the one before is shown. Their names sort as their moments.
    moment.value = looked ? String(grids.filter((each) => each <= looked).length - 1) : moment.max;
    const name = grids[Number(moment.value)], address = `api/grid?${run}&name=${name}`;
    const [, images, size] = name.replace(".png", "").split("-"), kimg = thousands(Number(images));
    if (image.getAttribute("src") !== address) image.src = address;
    image.alt = `Samples at ${size} after ${kimg} thousand images`;
    moment.setAttribute("aria-valuetext", `${kimg} thousand images, ${size}`);
    caption.textContent = `${size.replace("x", "×")}, after ${kimg} thousand images`;
  };
  moment.addEventListener("input", () => {
    looked = moment.value === moment.max ? "" : (state?.grids[Number(moment.value)] ?? "");
    showGrid();
  });

  const showState = () => {
    if (!state) return;
    const words = describe(state), status = element("training-state", HTMLElement);
    if (status.textContent !== words) status.textContent = words;
    status.classList.toggle("live", state.live);
    showStages(element("training-stages", HTMLElement), state);
    stop.hidden = !state.live || state.asked || state.finished;
    // Both may come after the page was opened.
    pictures.hidden = facts.models.length > 0 || !state.pictures;
    report.hidden = !(state.report && server.data); // it has training images
    const said = lines.filter((line) => line.notices).slice(-1)[0], notice = element("training-notice", HTMLElement);
    notice.hidden = !said;
    if (said) notice.textContent = `At ${thousands(said.cur_nimg)} kimg: ${said.notices}`;
    showGrid();
  };

  pictures.addEventListener("click", () => {
    location.hash = "make"; // which is what it shows then, also of a training that goes on
    location.reload();
  });

  const charts = place.querySelector("#training-charts");
  const showCharts = () => {
    drawing = 0;
    /** @type {[number, string][]} */
    const marks = lines.flatMap((line, i) => (i && line.resolution !== lines[i - 1].resolution ? [/** @type {[number, string]} */ ([lines[i - 1].cur_nimg / 1000, `${line.resolution}²`])] : []));
    const names = [...new Set(lines.flatMap(Object.keys))];
    for (const [id, title, chosen] of /** @type {[string, string, string[]][]} */ ([
      ["d", "Losses of the discriminator", names.filter((name) => name.startsWith("D/") && name !== "D/labels")],
      ["g", "Losses of the generator", names.filter((name) => name.startsWith("G/") && name !== "G/labels")],
      ["labels", "Losses of the labels", names.filter((name) => /^[DG]\/labels$/.test(name))],
      ["swd", "Distance from the real images (SWD)", names.filter((name) => name === "metrics/G_ema/swd" || name === "metrics/floor/swd")],
      ["speed", "Images a second", names.filter((name) => name === "img_per_sec")],
    ])) {
      const curves = chosen.map((name) => ({ name: NAMES[name] ?? name.slice(2), points: lines.filter((line) => name in line).map((line) => /** @type {[number, number]} */ ([line.cur_nimg / 1000, line[name] ?? NaN])) }));
      if (curves.length > 0) showChart(charts, id, title, curves, marks);
    }
  };
  /** Draws once for all that comes at the same time, and only what is seen. */
  const soon = () => {
    drawing ||= requestAnimationFrame(showCharts);
  };

  addEventListener("resize", () => {
    if (lines.length > 0) soon();
  });

  const leave = () => {
    clearTimeout(waiting);
    source?.close();
    source = null;
  };
  const connect = () => {
    leave();
    // A browser has six connections to a server for all its tabs: those that nobody sees leave theirs to others.
    if (!shown || document.hidden) return;
    source = new EventSource(`api/training?${run}`);
    source.addEventListener("all", ({ data }) => {
      lines = JSON.parse(data);
      soon();
    });
    source.addEventListener("more", ({ data }) => {
      lines = [...lines, ...JSON.parse(data)];
      soon();
    });
    source.addEventListener("state", ({ data }) => {
      state = JSON.parse(data);
      showState();
    });
    source.addEventListener("gone", ({ data }) => {
      source?.close();
      say(JSON.parse(data), true);
    });
    source.addEventListener("error", () => {
      // A browser tries again by itself, but not where the server refused, as when too many follow.
      if (source?.readyState === EventSource.CLOSED) waiting = setTimeout(connect, 2000 + 3000 * Math.random());
    });
  };
  document.addEventListener("visibilitychange", connect);

  asksFirst("training-stop", "Really stop? It can go on later", async () => {
    if (!server.change) return say("To stop a training, open the address that progan printed: it holds a token.");
    try {
      await ask(`api/stop?${run}`, { method: "POST" });
      stop.hidden = true;
      say("It saves and stops at the next look, within seconds.");
    } catch (error) {
      say(error instanceof Error ? error.message : String(error));
    }
  });
  return {
    show() {
      if (shown) return;
      shown = true;
      connect();
    },
    hide() {
      shown = false;
      leave();
    },
  };
}

/** @param {State} state */
export function describe(state) {
  const { live, asked, finished, cur_nimg, total, resolution, phase, alpha, left } = state;
  const stage = `${resolution}×${resolution}${phase === "fade" ? `, fading in (${Math.round(100 * alpha)} %)` : ""}`;
  const done = `${thousands(Math.min(cur_nimg, total))} of ${thousands(total)} thousand images`;
  if (asked) return `Stopping: it saves what it has · ${done}`;
  if (finished) return `Finished · ${stage} · ${done}`;
  if (!live) return `Not training now · ${stage} · ${done}`;
  return `Training · ${stage} · ${done}${left === null ? "" : ` · ${duration(left)} left`}`;
}

/**
 * `45 s`, `12 min`, `3 h 20 min`, `4 d 3 h`, as on the console.
 * @param {number} seconds
 */
export function duration(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 90) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/**
 * A bar of all stages, filled as far as the training is.
 * @param {HTMLElement} place
 * @param {State} state
 */
function showStages(place, { spans, cur_nimg, total }) {
  if (place.childElementCount !== spans.length) {
    place.replaceChildren(...spans.map(([resolution, phase, start, end]) => {
      const label = phase === "stable" && (end - start) / total > 0.07 ? String(resolution) : "";
      const segment = make("span", { className: phase, title: `${resolution}×${resolution} ${phase}` }, [make("i"), make("b", { textContent: label })]);
      segment.style.flexGrow = String(end - start);
      return segment;
    }));
  }
  spans.forEach(([, , start, end], i) => {
    const fill = place.children[i].firstElementChild;
    if (fill instanceof HTMLElement) fill.style.width = `${Math.max(0, Math.min(100, (100 * (cur_nimg - start)) / (end - start)))}%`;
  });
  place.setAttribute("aria-label", `${Math.floor((100 * cur_nimg) / Math.max(1, total))} % of the training is done`);
}

/**
 * Draws a chart with its title and legend, which is made when it is first needed.
 * @param {Element | null} place
 * @param {string} id
 * @param {string} title
 * @param {import("./chart.js").Curve[]} curves
 * @param {[number, string][]} marks
 */
function showChart(place, id, title, curves, marks) {
  let figure = document.getElementById(`chart-${id}`);
  if (!figure) {
    figure = make("figure", { id: `chart-${id}` }, [make("figcaption", { textContent: title }), document.createElementNS("http://www.w3.org/2000/svg", "svg"), make("p", { className: "legend" })]);
    place?.append(figure);
  }
  const svg = figure.querySelector("svg"), legend = figure.querySelector("p");
  if (svg) draw(svg, curves, marks, title);
  legend?.replaceChildren(...curves.map(({ name, points }, i) => make("span", { className: `c${i % 6}` }, [`${name} `, make("b", { textContent: points.length ? short(points[points.length - 1][1]) : "" })])));
}

/**
 * A button that asks once more before it does something.
 * @param {string} id
 * @param {string} question
 * @param {() => unknown} act
 */
function asksFirst(id, question, act) {
  const pressed = button(id), words = pressed.textContent;
  let back = 0;
  pressed.addEventListener("click", () => {
    clearTimeout(back);
    if (pressed.classList.toggle("sure")) {
      pressed.textContent = question;
      back = setTimeout(() => {
        pressed.classList.remove("sure");
        pressed.textContent = words;
      }, 5000);
    } else {
      pressed.textContent = words;
      act();
    }
  });
}
