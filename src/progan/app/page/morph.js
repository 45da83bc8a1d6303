/** From one picture to another: from seed to seed, from class to class, or both. */

import { button, element, input, make, paint } from "./dom.js";
import { strip } from "./film.js";
import { labelSelects } from "./labels.js";
import { save } from "./platform.js";
import { origin, toPng } from "./png.js";
import { anySeed, classInTurn, inWords, morphName, moves, parseSeed, SEEDS, seedsOf } from "./wish.js";

/**
 * @typedef {import("./engine.js").Engine} Engine
 * @typedef {import("./engine.js").Wish} Wish
 * @typedef {import("./main.js").App} App
 */

const SECONDS = 4; // of the way from one picture to the other
/** @type {Record<string, string>} Words for what a way can be saved as. */
const FORMATS = { png: "Strip (PNG)", webp: "WebP", mp4: "MP4", webm: "WebM" };

/**
 * @param {App} app
 * @param {Engine} engine
 */
export function morph(app, engine) {
  const { facts } = app, kind = facts.labels?.kind;
  const canvas = element("morph-canvas", HTMLCanvasElement), caption = element("morph-caption", HTMLParagraphElement);
  const from = input("morph-from"), to = input("morph-to"), position = input("morph-position"), play = button("morph-play");
  const keep = input("morph-keep"), ends = element("morph-ends", HTMLDivElement);
  const again = () => {
    if (!playing) void show();
  };
  const start = labelSelects(facts.labels, kind === "class" ? null : "any", again);
  const end = labelSelects(facts.labels, "the same", again);
  let turn = 0, playing = 0, begunAt = ""; // `playing` is the turn of the loop that plays, 0 for none

  // A row for the class, or for each attribute, below that of the seeds.
  start.titles.forEach((title, i) => {
    for (const [side, { selects }] of Object.entries({ start, end })) selects[i].setAttribute("aria-label", `${title} at the ${side}`);
    ends.append(make("span", { textContent: title }), start.selects[i], end.selects[i]);
  });
  element("morph-keep-row", HTMLLabelElement).hidden = !kind;
  element("morph-keep-words", HTMLSpanElement).textContent = `Keep the seed, change only the ${kind === "class" ? "class" : "attributes"}`;

  /** The way as it is chosen, at the slider's position. @returns {Wish} */
  const chosen = () => ({
    ...app.state.wish, seed: from.value, to: keep.checked ? "" : to.value, label: start.value(), toLabel: end.value(), t: Number(position.value),
  });
  /** Chooses another class, or another value of some attribute, as the end. */
  const anyEnd = () => {
    const others = end.selects.flatMap((select, i) =>
      [...select.options].filter(({ value }) => value && value !== start.selects[i].value));
    const one = others[Math.floor(Math.random() * others.length)];
    if (one) one.selected = true;
  };
  const draw = async () => {
    const wish = chosen(), picture = await app.draw(wish, turn);
    if (!picture) return false;
    paint(canvas, picture.pixels);
    canvas.setAttribute("aria-label", `Picture: ${inWords(wish)}`);
    caption.textContent = moves(wish) ? `${Math.round(100 * wish.t)} % of the way` : "Choose another end: this one is the beginning.";
    return true;
  };
  const stop = () => {
    playing = 0;
    play.textContent = "Play";
  };
  const run = async () => {
    const mine = (playing = turn = app.turn());
    play.textContent = "Pause";
    let way = (SECONDS / Math.PI) * Math.acos(1 - 2 * Number(position.value)), before = performance.now();
    for (;;) {
      const now = await new Promise(requestAnimationFrame);
      if (playing !== mine) return;
      way += Math.min(0.25, (now - before) / 1000);
      before = now;
      // There and back, slow at the ends.
      position.value = String((1 - Math.cos((Math.PI * way) / SECONDS)) / 2);
      if (!(await draw()) && playing === mine) return stop();
    }
  };
  const show = () => {
    turn = app.turn();
    to.disabled = keep.checked;
    return draw();
  };

  for (const field of [from, to]) {
    field.addEventListener("change", () => {
      const seed = parseSeed(field.value);
      if (seed === null) app.say(SEEDS);
      field.value = seed ?? anySeed();
      again();
    });
  }
  keep.addEventListener("change", () => {
    if (keep.checked && end.value() === "") anyEnd();
    to.disabled = keep.checked;
    again();
  });
  position.addEventListener("input", () => {
    stop();
    void show();
  });
  play.addEventListener("click", () => {
    if (playing) stop();
    else void run();
  });
  button("morph-new").addEventListener("click", () => {
    // It goes on from where it ended; labels change again if they did.
    const changes = end.value() !== "";
    if (!keep.checked) [from.value, to.value] = [to.value, anySeed()];
    end.selects.forEach(({ value }, i) => {
      if (value) start.selects[i].value = value;
    });
    end.show("");
    if (changes) anyEnd();
    position.value = "0";
    again();
  });
  button("morph-open").addEventListener("click", () => app.open(chosen()));

  // What the way is saved as: a strip of pictures, and the films that the engine can make.
  /** @type {import("./engine.js").FilmKind} */
  const still = {
    suffix: "png",
    make: async (wish) => toPng(await strip(engine.draw, wish), origin(facts, wish.resolution, seedsOf(wish))),
  };
  const saves = [still, ...engine.films].map(({ suffix, make: made }) => {
    const saved = make("button", { id: `morph-save-${suffix}`, type: "button", textContent: FORMATS[suffix] });
    saved.addEventListener("click", async () => {
      stop();
      for (const each of saves) each.disabled = true;
      app.say("Making it …", true);
      try {
        const wish = chosen();
        const blob = await made(wish, (done, total) => app.say(`Making it: ${done} of ${total} pictures`, true));
        app.say(await save(blob, morphName(wish, suffix)));
      } catch (error) {
        app.say(error instanceof Error ? error.message : String(error));
      }
      for (const each of saves) each.disabled = false;
    });
    return saved;
  });
  element("morph-saves", HTMLDivElement).append(...saves);
  element("morph-lacks", HTMLParagraphElement).textContent = engine.lacks;
  return {
    show() {
      const { wish } = app.state, key = `${wish.seed} ${wish.label}`;
      if (moves(wish)) {
        [from.value, to.value, position.value] = [wish.seed, wish.to || to.value || anySeed(), String(wish.t)];
        keep.checked = !wish.to;
        start.show(wish.label);
        end.show(wish.toLabel);
      } else if (begunAt !== key) {
        [from.value, to.value, position.value] = [wish.seed, anySeed(), "0"];
        start.show(wish.label || classInTurn(facts, wish.seed));
      }
      begunAt = key;
      return show();
    },
    hide: stop,

    /**
     * Takes a picture as the end of the way, which begins where the last one did.
     * @param {Wish} wish
     */
    endAt(wish) {
      if (!from.value || from.value === wish.seed) {
        from.value = anySeed();
        start.show(wish.label);
      }
      keep.checked = false;
      end.show(wish.label);
      [to.value, position.value, begunAt] = [wish.seed, "0", `${app.state.wish.seed} ${app.state.wish.label}`];
    },
  };
}
