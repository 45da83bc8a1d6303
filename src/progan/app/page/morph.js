/** From one picture to another. */

import { button, element, input, paint } from "./dom.js";
import { save } from "./platform.js";
import { anySeed, inWords, parseSeed } from "./wish.js";

/**
 * @typedef {import("./engine.js").Engine} Engine
 * @typedef {import("./engine.js").Wish} Wish
 * @typedef {import("./main.js").App} App
 */

const SECONDS = 4; // of the way from one picture to the other

/**
 * @param {App} app
 * @param {Engine["film"]} film
 */
export function morph(app, film) {
  const canvas = element("morph-canvas", HTMLCanvasElement), caption = element("morph-caption", HTMLParagraphElement);
  const from = input("morph-from"), to = input("morph-to"), position = input("morph-position"), play = button("morph-play");
  let playing = false, turn = 0, begunAt = "";

  const draw = async () => {
    const wish = { ...app.state.wish, seed: from.value, to: to.value, t: Number(position.value) };
    const picture = await app.draw(wish, turn);
    if (!picture) return false;
    paint(canvas, picture.pixels);
    canvas.setAttribute("aria-label", `Picture: ${inWords(wish)}`);
    caption.textContent = `${Math.round(100 * wish.t)} % of the way`;
    return true;
  };
  const stop = () => {
    playing = false;
    play.textContent = "Play";
  };
  const start = async () => {
    playing = true;
    play.textContent = "Pause";
    let way = Number(position.value) * SECONDS, before = performance.now();
    while (playing) {
      const now = await new Promise(requestAnimationFrame);
      way += Math.min(0.25, (now - before) / 1000);
      before = now;
      // There and back, slow at the ends.
      position.value = String((1 - Math.cos((Math.PI * way) / SECONDS)) / 2);
      if (!(await draw())) return stop();
    }
  };
  const show = () => {
    turn = app.turn();
    return draw();
  };

  for (const field of [from, to]) {
    field.addEventListener("change", () => {
      const seed = parseSeed(field.value);
      if (seed === null) app.say("A seed is a whole number from 0 on.");
      field.value = seed ?? anySeed();
      if (!playing) void show();
    });
  }
  position.addEventListener("input", () => {
    stop();
    void show();
  });
  play.addEventListener("click", () => {
    if (playing) return stop();
    turn = app.turn();
    void start();
  });
  button("morph-new").addEventListener("click", () => {
    from.value = to.value;
    to.value = anySeed();
    position.value = "0";
    if (!playing) void show();
  });
  button("morph-open").addEventListener("click", () => {
    app.open({ ...app.state.wish, seed: from.value, to: to.value, t: Number(position.value) });
  });
  const filmed = button("morph-film");
  filmed.hidden = film === null;
  filmed.addEventListener("click", async () => {
    stop();
    filmed.disabled = true;
    app.say("Making the film …", true);
    try {
      const blob = await /** @type {NonNullable<typeof film>} */ (film)({ ...app.state.wish, seed: from.value, to: to.value, t: 0 });
      save(blob, `seeds-${from.value}-${to.value}.webp`);
      app.say("Saved.");
    } catch (error) {
      app.say(error instanceof Error ? error.message : String(error));
    }
    filmed.disabled = false;
  });
  return {
    show() {
      const { wish } = app.state;
      if (wish.to) {
        [from.value, to.value, position.value] = [wish.seed, wish.to, String(wish.t)];
      } else if (begunAt !== wish.seed) {
        [from.value, to.value, position.value] = [wish.seed, anySeed(), "0"];
      }
      begunAt = wish.seed;
      return show();
    },
    hide: stop,

    /**
     * Takes a picture as the end of the way, which begins where the last one did.
     * @param {Wish} wish
     */
    endAt(wish) {
      if (!from.value || from.value === wish.seed) from.value = anySeed();
      [to.value, position.value, begunAt] = [wish.seed, "0", app.state.wish.seed];
    },
  };
}
